"""``python -m spaceevo.search_subnet``."""

from spaceevo.app.commands import main_for

main = main_for("search_subnet")

if __name__ == "__main__":
    main()
