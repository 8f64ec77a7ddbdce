"""One's own images: a folder of class folders, or a table of paths and labels, with what a config leaves to them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spaceevo.data.config import DataConfig
from spaceevo.data.listing import File, Listing, list_files
from spaceevo.data.pixels import Square, decoded
from spaceevo.data.scan import Seen, scan
from spaceevo.data.split import Members, split
from spaceevo.errors import UserError, bad_value

#: Sides that images may be brought to, pixels: the largest that the median of them has.
SIZES = (16, 24, 28, 32, 40, 48, 56, 64)
#: Images that mean and spread are taken of, at most.
MEASURED = 4096
_said: set[str] = set()


@dataclass(frozen=True)
class Own:
    """Images that can be read, with what was ``seen`` of each; ``broken``: the files that cannot, and why."""

    listing: Listing
    files: list[File]
    seen: list[Seen]
    broken: dict[str, str]

    @staticmethod
    def at(root: str) -> Own:
        """All that ``data.root`` has, scanned.

        Raises:
            UserError: as of ``list_files``.
        """
        listing = list_files(root)
        both = list(zip(listing.files, scan(listing), strict=True))
        good = [(file, seen) for file, seen in both if not seen.error]
        broken = {file.path: seen.error for file, seen in both if seen.error}
        return Own(listing, [file for file, _ in good], [seen for _, seen in good], broken)

    @cached_property
    def members(self) -> Members:
        """What the split is made of."""
        places = {name: label for label, name in enumerate(self.listing.names)}
        labels = np.array([places[file.name] for file in self.files], int)
        contents = np.array([seen.sha256 for seen in self.seen], str)
        return Members(labels, contents, np.array([file.part or "" for file in self.files], str), self.listing.given)

    @cached_property
    def files_id(self) -> str:
        """How many files there are, and a hash of contents, classes and given parts: not of what files are called."""
        told = sorted(f"{seen.sha256} {file.part} {file.name}" for file, seen in zip(self.files, self.seen, strict=True))
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
        return f"{len(told):,} files {digest[:16]}"

    def side(self) -> int:
        """The largest of ``SIZES`` that is not more than the median of the images' shorter sides."""
        median = float(np.median([min(seen.width, seen.height) for seen in self.seen]))
        return max((size for size in SIZES if size <= median), default=SIZES[0])

    def pixels(self, cfg: DataConfig) -> np.ndarray:
        """``[N, C, S, S]`` uint8 of all images, mapped into memory, as a settled config says."""
        square = Square(cfg.image_size, cfg.channels, cfg.background)
        return decoded(self.listing.root, [file.path for file in self.files], [seen.sha256 for seen in self.seen], square)

    def split_id(self, parts: dict[str, np.ndarray], names: tuple[str, ...] = ("train", "val")) -> str:
        """sha256 of which contents, with which labels, are in which part, in order."""
        rows = [f"{part} {self.seen[i].sha256} {self.files[i].name}" for part in names for i in parts[part]]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def own_images(cfg: DataConfig) -> Own:
    """The images of a config with ``name`` folder.

    Raises:
        UserError: they cannot be learned from (files that are broken, all told at once; a class without an image), or are
            not those that ``cfg.files`` names, or not as the config describes them.
    """
    own = Own.at(cfg.root)
    short, listing = own.listing.short, own.listing
    if own.broken and not cfg.skip_broken:
        told = some([f"{short(path)} ({why})" for path, why in own.broken.items()])
        raise UserError(
            f"data.root={cfg.root}: {len(own.broken):,} of {len(listing.files):,} files cannot be read: {told}; mend or remove "
            "them, or go on without them with data.skip_broken=true"
        )
    if cfg.files not in ("", own.files_id):
        raise UserError(
            f"data.root={cfg.root}: its images have changed since this began ({own.files_id}, then {cfg.files}); what was "
            "trained is kept: put them back to go on, or run the new ones under another name=..."
        )
    if cfg.names and cfg.names != listing.names:
        raise bad_value("data.names", some(cfg.names), f"those of {cfg.root}: {some(listing.names)}")
    if cfg.classes not in (0, len(listing.names)):
        raise bad_value("data.classes", cfg.classes, f"0 or {len(listing.names)}, the classes of {cfg.root}")
    if cfg.channels not in (0, 1, 3):
        raise bad_value("data.channels", cfg.channels, "1, 3, or 0 for what the images are")
    return own


def parts_of(own: Own, cfg: DataConfig) -> dict[str, np.ndarray]:
    """The indices of training, validation and test images.

    Raises:
        UserError: a class has no training image, or there is no validation or test image at all.
    """
    listing = own.listing
    counts = np.bincount(own.members.labels, minlength=len(listing.names))
    trained = own.members.labels[own.members.parts != ""] if listing.given else own.members.labels
    empty = [name for name, count in zip(listing.names, counts, strict=True) if count == 0]
    parts = split(own.members, cfg.validation, cfg.split_seed) if not empty else {}
    if parts:
        trained = own.members.labels[parts["train"]]
        empty = [name for label, name in enumerate(listing.names) if label not in trained]
    if empty:
        raise UserError(f"data.root={cfg.root}: no image to train on of {some(empty)}; add some, or remove the class")
    for part in ("val", "test"):
        if len(parts[part]) == 0:
            raise UserError(f"data.root={cfg.root}: no image for {part}: classes of one image each cannot be divided")
    return parts


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
        mean, std = _moments(own.pixels(full), parts["train"])
        full = replace(full, mean=cfg.mean or [mean] * full.channels, std=cfg.std or [std] * full.channels)
    from spaceevo.data.oddities import oddities  # it reads what is here

    for line in (summary(own, full, parts), *oddities(own, parts)):
        if line not in _said:
            _said.add(line)
            print(f"data: {line}", flush=True)
    return full


def _moments(pixels: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Mean, a whole number of 255ths so that it is a pixel's value, and standard deviation of training images, from 0 to 1."""
    few = np.sort(train)[:: -(-len(train) // MEASURED)]
    values = pixels[few].astype(np.float32)
    return round(float(values.mean(dtype=np.float64))) / 255, max(0.01, round(float(values.std(dtype=np.float64)) / 255, 3))


def summary(own: Own, cfg: DataConfig, parts: dict[str, np.ndarray]) -> str:
    """What there is and how it is taken, in a line."""
    skipped: Counter[str] = Counter(own.listing.skipped)
    if own.broken:
        skipped["broken"] = len(own.broken)
    told = f"; {sum(skipped.values()):,} files skipped ({some([f'{n} {kind}' for kind, n in skipped.most_common()])})"
    train, val, test = (f"{len(parts[part]):,}" for part in ("train", "val", "test"))
    return (
        f"{len(own.files):,} images of {cfg.classes} classes ({some(cfg.names, 4)}), "
        f"{cfg.channels} channel{'s' if cfg.channels > 1 else ''}, brought to {cfg.image_size}x{cfg.image_size}; "
        f"{train} train, {val} validation, {test} test{told if skipped else ''}"
    )


def some(words: list[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
