"""One's own images: the files of a folder or a table, what was seen of them, and whether they can be learned from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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
    names, labels = own.listing.names, own.members.labels
    parts: dict[str, np.ndarray] = {}
    there = labels
    if len(set(labels.tolist())) == len(names):
        parts = split(own.members, cfg.validation, cfg.split_seed)
        there = labels[parts["train"]]
    trained = set(there.tolist())
    empty = [name for label, name in enumerate(names) if label not in trained]
    if empty:
        raise UserError(f"data.root={cfg.root}: no image to train on of {some(empty)}; add some, or remove the class")
    for part in ("val", "test"):
        if len(parts[part]) == 0:
            raise UserError(f"data.root={cfg.root}: no image for {part}: classes of one image each cannot be divided")
    return parts


def some(words: list[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
