"""``python -m spaceevo.search_space``."""

from spaceevo.app.entry import main_for

main = main_for("search_space")

if __name__ == "__main__":
    main()
