"""``python -m spaceevo.quantize``."""

from spaceevo.app.commands import main_for

main = main_for("quantize")

if __name__ == "__main__":
    main()
