"""``python -m spaceevo.tau``."""

from spaceevo.app.commands import main_for

main = main_for("tau")

if __name__ == "__main__":
    main()
