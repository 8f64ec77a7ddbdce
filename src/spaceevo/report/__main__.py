"""``python -m spaceevo.report``: draw what the run folder holds as one HTML page."""

from spaceevo.app.cli import entrypoint
from spaceevo.app.run import main_of

main = entrypoint("report", main_of("report"))

if __name__ == "__main__":
    main()
