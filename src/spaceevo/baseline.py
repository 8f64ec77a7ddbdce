"""``python -m spaceevo.baseline``."""

from spaceevo.app.entry import main_for

main = main_for("baseline")

if __name__ == "__main__":
    main()
