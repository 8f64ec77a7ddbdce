"""``python -m spaceevo.benchmark``."""

from spaceevo.app.entry import main_for

main = main_for("benchmark")

if __name__ == "__main__":
    main()
