"""``python -m spaceevo.train``."""

from spaceevo.app.entry import main_for

main = main_for("train")

if __name__ == "__main__":
    main()
