"""Images decoded at the size they are trained at, kept in a file that is mapped into memory: epochs do not decode again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.data import decode
from spaceevo.data.scan import spread
from spaceevo.errors import UserError, bad_value
from spaceevo.paths import cache_dir

GIB = 2**30


@dataclass(frozen=True)
class Square:
    """How images become pixels: sizes of ``to_square``."""

    size: int
    channels: int
    background: int

    def of(self, path: str) -> np.ndarray:
        """``[channels, size, size]`` uint8 of a file."""
        with decode.opened(path) as image:
            return decode.to_square(image, self.size, self.channels, self.background)


def decoded(root: Path, paths: Sequence[str], contents: Sequence[str], square: Square) -> np.ndarray:
    """``[N, channels, size, size]`` uint8 of files with these ``contents`` (sha256), mapped into memory; decoded at the first
    call, and again where the kept file is damaged.

    Raises:
        UserError: there is no room for them, or a file cannot be read any more.
    """
    shape = (len(paths), square.channels, square.size, square.size)
    told = "".join(contents) + repr((decode.VERSION, square))
    like = (
        f"{hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:12]}-{square.channels}x{square.size}-{square.background}"
    )
    place = cache_dir() / "decoded" / f"{like}-{hashlib.sha256(told.encode()).hexdigest()[:32]}.npy"
    kept = _kept(place, shape)
    if kept is not None:
        return kept
    _check_room(place, shape)
    atomic_write(place, partial(_write, paths=paths, square=square, shape=shape))
    with open(place, "rb") as file:
        atomic_write(place.with_suffix(".sha256"), hashlib.file_digest(file, "sha256").hexdigest())
    for old in place.parent.glob(f"{like}-*"):  # of files that have changed since
        if old.stem != place.stem:
            with suppress(OSError):
                old.unlink()
    return np.load(place, mmap_mode="c")


def _kept(place: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The pixels of an earlier call, None where there are none or they are not as they were written."""
    try:
        with open(place, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == place.with_suffix(".sha256").read_text()
        pixels = np.load(place, mmap_mode="c") if whole else None
    except (OSError, ValueError):
        return None
    return pixels if pixels is not None and pixels.shape == shape and pixels.dtype == np.uint8 else None


def _write(aside: Path, paths: Sequence[str], square: Square, shape: tuple[int, ...]) -> None:
    pixels = np.lib.format.open_memmap(aside, "w+", np.uint8, shape)
    for i, image in enumerate(spread(partial(_square, square), paths, "decode")):
        if isinstance(image, str):
            raise UserError(f"{paths[i]}: {image}")
        pixels[i] = image
    pixels.flush()


def _square(square: Square, path: str) -> np.ndarray | str:
    """The pixels, or why there are none."""
    try:
        return square.of(path)
    except Exception as error:  # decoders raise whatever they like
        return (str(error) or type(error).__name__).splitlines()[0]


def _check_room(place: Path, shape: tuple[int, ...]) -> None:
    needed = float(np.prod(shape, dtype=float))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    advice = "take a smaller data.image_size, or data=imagenet, which keeps none"
    if needed > memory / 2:
        allowed = f"less for so many images: decoded they take {needed / GIB:,.1f} GiB, of {memory / GIB:,.1f} GiB of memory"
        raise bad_value("data.image_size", shape[-1], f"{allowed}; {advice}")
    place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if needed > 0.9 * free:
        raise UserError(
            f"data=folder: decoded images take {needed / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB are free in {place.parent}; "
            f"{advice}, or XDG_CACHE_HOME=<folder> keeps them elsewhere"
        )
