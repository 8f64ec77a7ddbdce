"""``python -m spaceevo.profile``."""

from spaceevo.app.commands import main_for

main = main_for("profile")

if __name__ == "__main__":
    main()
