"""``python -m spaceevo.study_quantization``."""

from spaceevo.app.entry import main_for

main = main_for("study_quantization")

if __name__ == "__main__":
    main()
