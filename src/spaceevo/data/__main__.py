"""``python -m spaceevo.data``."""

from spaceevo.app.entry import main_for

main = main_for("data")

if __name__ == "__main__":
    main()
