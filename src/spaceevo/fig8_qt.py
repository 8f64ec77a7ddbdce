"""``python -m spaceevo.fig8_qt``."""

from spaceevo.app.entry import main_for

main = main_for("fig8_qt")

if __name__ == "__main__":
    main()
