"""``python -m spaceevo.verify``."""

from spaceevo.app.entry import main_for

main = main_for("verify")

if __name__ == "__main__":
    main()
