"""``python -m spaceevo.tau``."""

from spaceevo.app.entry import main_for

main = main_for("tau")

if __name__ == "__main__":
    main()
