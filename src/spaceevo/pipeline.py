"""``python -m spaceevo.pipeline``."""

from spaceevo.app.commands import main_for

main = main_for("pipeline")

if __name__ == "__main__":
    main()
