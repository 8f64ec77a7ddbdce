"""``python -m spaceevo.benchmark``."""

from spaceevo.app.commands import main_for

main = main_for("benchmark")

if __name__ == "__main__":
    main()
