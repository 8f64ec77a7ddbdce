"""``python -m spaceevo.report``."""

from spaceevo.app.commands import main_for

main = main_for("report")

if __name__ == "__main__":
    main()
