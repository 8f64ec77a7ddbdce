"""``python -m spaceevo.pipeline``: every step from profiling the device to the report."""

from spaceevo.app.cli import entrypoint
from spaceevo.app.run import run_pipeline

main = entrypoint("pipeline", run_pipeline)

if __name__ == "__main__":
    main()
