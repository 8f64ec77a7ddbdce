"""``python -m spaceevo.lut``."""

from spaceevo.app.entry import main_for

main = main_for("lut")

if __name__ == "__main__":
    main()
