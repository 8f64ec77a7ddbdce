"""``python -m spaceevo.search_space``."""

from spaceevo.app.commands import main_for

main = main_for("search_space")

if __name__ == "__main__":
    main()
