"""``python -m spaceevo.release``."""

from spaceevo.app.entry import main_for

main = main_for("release")

if __name__ == "__main__":
    main()
