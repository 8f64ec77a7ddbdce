"""``python -m spaceevo.data check``: what one's own images are, on a page, before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spaceevo.data.config import DataConfig
from spaceevo.errors import UserError, bad_value
from spaceevo.settings import setting, typed
from spaceevo.steps.folder import say
from spaceevo.steps.step import Command

if TYPE_CHECKING:
    import numpy as np

    from spaceevo.data.own import Own

#: Classes and broken files that are listed, at most.
LISTED = 40


@dataclass
class DataCheckConfig:
    """``python -m spaceevo.data``."""

    do: str = setting("check: print what the images are; the word alone does too", choices=("check",))
    debug: bool = setting("show the Python traceback of an error")
    data: DataConfig = field(default_factory=DataConfig)


def read(cfg: DictConfig) -> DataCheckConfig:
    """The composed config, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    if OmegaConf.is_missing(cfg, "do"):
        raise UserError("do: has no value; there is `python -m spaceevo.data check data.root=<folder of images>`")
    config = typed(DataCheckConfig, cfg)
    if config.data.name != "folder":
        raise bad_value("data.name", config.data.name, "folder: of the others it is known what they are")
    return config


def run(cfg: DataCheckConfig) -> None:
    """Scan the images of ``data.root`` and print a page of them; what stands in the way of training on them comes last.

    Raises:
        UserError: they cannot be trained on, and why.
    """
    from dataclasses import replace

    from spaceevo.data.folder import settled
    from spaceevo.data.own import Own, own_images, parts_of

    own = Own.at(cfg.data.root)
    lenient = replace(cfg.data, skip_broken=True)
    for line in _files(own):
        say(line)
    parts = parts_of(own_images(lenient), lenient)
    for line in _classes(own, parts):
        say(line)
    full = settled(lenient)
    for key in ("channels", "classes", "image_size", "mean", "std", "validation"):
        say(f"data.{key}={getattr(full, key)}".replace(" ", ""))
    own_images(cfg.data)  # refuses broken files


def _files(own: Own) -> Iterator[str]:
    """What the files are: sizes, modes, and those that are none."""
    import numpy as np

    listing = own.listing
    yield f"{listing.root}: {len(listing.files):,} files of images"
    if own.files:
        for key in ("width", "height"):
            values = np.array([getattr(seen, key) for seen in own.seen])
            yield f"{key:<8} from {values.min():,} to {values.max():,} pixels, median {np.median(values):,.0f}"
        yield f"{'modes':<8} {_counted(Counter(seen.mode for seen in own.seen))}"
    if listing.skipped:
        yield f"{'skipped':<8} {_counted(listing.skipped)}"
    if own.broken:
        yield f"{'broken':<8} {len(own.broken):,}"
        for path, why in list(own.broken.items())[:LISTED]:
            yield f"  {listing.short(path)}: {why}"


def _classes(own: Own, parts: dict[str, np.ndarray]) -> Iterator[str]:
    """A row a class, with its images in each part."""
    import numpy as np

    names = own.listing.names
    counts = {part: np.bincount(own.members.labels[indices], minlength=len(names)) for part, indices in parts.items()}
    width = max(len("class"), *(len(name) for name in names[:LISTED]))
    yield f"{'class':<{width}}  {'train':>9} {'val':>9} {'test':>9}"
    for label, name in enumerate(names[:LISTED]):
        yield f"{name:<{width}}  {' '.join(f'{counts[part][label]:>9,}' for part in ('train', 'val', 'test'))}"
    if len(names) > LISTED:
        yield f"and {len(names) - LISTED:,} classes more"


def _counted(counter: Counter[Any]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counter.most_common(12))


COMMAND = Command(
    "data",
    "tells what your own images are before anything is trained: classes, sizes, broken and double files, what is inferred",
    run,
    ("check data.root=photos", "check data.root=photos/labels.csv data.image_size=48"),
    config=DataCheckConfig,
    read=read,
)
