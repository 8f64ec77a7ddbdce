"""``python -m spaceevo.predict``."""

from spaceevo.app.entry import main_for

main = main_for("predict")

if __name__ == "__main__":
    main()
