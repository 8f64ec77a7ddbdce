"""``python -m spaceevo.pipeline``."""

from spaceevo.app.entry import main_for

main = main_for("pipeline")

if __name__ == "__main__":
    main()
