"""``python -m spaceevo.describe``."""

from spaceevo.app.entry import main_for

main = main_for("describe")

if __name__ == "__main__":
    main()
