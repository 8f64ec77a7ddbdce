"""``python -m spaceevo.search_subnet``."""

from spaceevo.app.entry import main_for

main = main_for("search_subnet")

if __name__ == "__main__":
    main()
