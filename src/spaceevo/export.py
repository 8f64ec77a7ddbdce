"""``python -m spaceevo.export``."""

from spaceevo.app.entry import main_for

main = main_for("export")

if __name__ == "__main__":
    main()
