"""``python -m spaceevo.train stage=teacher|bkd|supernet|qat``: any training of the pipeline alone."""

from spaceevo.app.cli import entrypoint
from spaceevo.app.run import main_of

main = entrypoint("train", lambda cfg: main_of(cfg.stage.name)(cfg))

if __name__ == "__main__":
    main()
