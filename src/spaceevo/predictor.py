"""``python -m spaceevo.predictor``."""

from spaceevo.app.entry import main_for

main = main_for("predictor")

if __name__ == "__main__":
    main()
