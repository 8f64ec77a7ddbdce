"""What a config leaves to one's own images, filled in and told: how many, of which classes, channels and size."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from spaceevo.data.config import DataConfig
from spaceevo.data.oddities import oddities
from spaceevo.data.own import Own, own_images, parts_of, some
from spaceevo.errors import bad_value

#: Images that mean and spread are taken of, at most.
MEASURED = 4096
_said: set[str] = set()
_moments: dict[tuple[object, ...], tuple[float, float]] = {}


def settled(cfg: DataConfig) -> DataConfig:
    """``cfg`` with numbers for what it leaves to the images; of another data set than folder as it is. What is found is said,
    once a process, in a line, and what is odd about it in a line each.

    Raises:
        UserError: as of ``own_images`` and ``parts_of``.
    """
    if cfg.name != "folder":
        return cfg
    own = own_images(cfg)
    parts = parts_of(own, cfg)
    full = replace(
        cfg,
        channels=cfg.channels or (1 if all(seen.grey for seen in own.seen) else 3),
        classes=len(own.listing.names),
        names=own.listing.names,
        image_size=cfg.image_size or own.side(),
        validation=len(parts["val"]),
        files=own.files_id,
    )
    for key, values in (("mean", cfg.mean), ("std", cfg.std)):
        if len(values) not in (0, full.channels):
            raise bad_value(f"data.{key}", values, f"{full.channels} numbers, one a channel, or [] for what the images have")
    if not cfg.mean or not cfg.std:
        same = (own.files_id, own.split_id(parts), full.image_size, full.channels, full.background)
        if same not in _moments:  # the jobs of a sweep have the same
            _moments[same] = _measured(own.pixels(full), parts["train"])
        mean, std = _moments[same]
        full = replace(full, mean=cfg.mean or [mean] * full.channels, std=cfg.std or [std] * full.channels)
    for line in (summary(own, full, parts), *oddities(own, parts)):
        if line not in _said:
            _said.add(line)
            print(f"data: {line}", flush=True)
    return full


def _measured(pixels: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Mean, a whole number of 255ths so that it is a pixel's value, and standard deviation of training images, from 0 to 1."""
    few = np.sort(train)[:: -(-len(train) // MEASURED)]
    values = pixels[few].astype(np.float32)
    return round(float(values.mean(dtype=np.float64))) / 255, max(0.01, round(float(values.std(dtype=np.float64)) / 255, 3))


def summary(own: Own, cfg: DataConfig, parts: dict[str, np.ndarray]) -> str:
    """What there is and how it is taken, in a line."""
    skipped: Counter[str] = Counter(own.listing.skipped)
    if own.broken:
        skipped["broken"] = len(own.broken)
    told = f"; {sum(skipped.values()):,} skipped ({some([f'{n} {kind}' for kind, n in skipped.most_common()])})"
    train, val, test = (f"{len(parts[part]):,}" for part in ("train", "val", "test"))
    return (
        f"{len(own.files):,} images of {cfg.classes} classes ({some(cfg.names, 4)}), "
        f"{cfg.channels} channel{'s' if cfg.channels > 1 else ''}, brought to {cfg.image_size}x{cfg.image_size}; "
        f"{train} train, {val} validation, {test} test{told if skipped else ''}"
    )
