"""``python -m spaceevo.baseline``."""

from spaceevo.app.commands import main_for

main = main_for("baseline")

if __name__ == "__main__":
    main()
