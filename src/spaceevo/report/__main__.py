"""``python -m spaceevo.report``."""

from spaceevo.app.entry import main_for

main = main_for("report")

if __name__ == "__main__":
    main()
