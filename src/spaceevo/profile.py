"""``python -m spaceevo.profile``."""

from spaceevo.app.entry import main_for

main = main_for("profile")

if __name__ == "__main__":
    main()
