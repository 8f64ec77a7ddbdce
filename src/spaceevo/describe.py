"""``python -m spaceevo.describe``."""

from spaceevo.app.commands import main_for

main = main_for("describe")

if __name__ == "__main__":
    main()
