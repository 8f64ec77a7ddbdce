"""``python -m spaceevo.quantize``."""

from spaceevo.app.entry import main_for

main = main_for("quantize")

if __name__ == "__main__":
    main()
