"""Every file of a set decoded once, in all cores, and what was seen of it kept: a second look takes the time to list it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from spaceevo.atomic import atomic_write
from spaceevo.data.decode import flat, is_grey, opened
from spaceevo.data.listing import Listing
from spaceevo.errors import UserError
from spaceevo.paths import cache_dir
from spaceevo.progress import progress

#: Raised by one whenever something else is seen of the same file.
VERSION = 1
#: Fewer files are decoded here: other processes take longer to start.
FEW, CHUNK = 200, 32
Stamp = tuple[int, int]


class Seen(NamedTuple):
    """What a file holds: sha256 of its content, pixels wide and high as stored, PIL's mode, whether it is grey; or, in
    ``error``, why it cannot be read."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    grey: bool = False
    error: str = ""


def scan(listing: Listing) -> list[Seen]:
    """What each of the listing's files holds. Only files that are new, or changed by size or time, or broken, are read."""
    stamps = [_stamp(file.path) for file in listing.files]
    place = cache_dir() / "scans" / f"{hashlib.sha256(os.fsencode(listing.root.absolute())).hexdigest()[:16]}.json"
    known = _known(place)
    found: dict[str, tuple[Stamp, Seen]] = {}
    new: list[str] = []
    for file, stamp in zip(listing.files, stamps, strict=True):
        held = known.get(file.path)
        if held is not None and held[0] == stamp:
            found[file.path] = held
        elif file.path not in found and stamp is not None:
            new.append(file.path)
    new = list(dict.fromkeys(new))
    by_path = {file.path: stamp for file, stamp in zip(listing.files, stamps, strict=True) if stamp is not None}
    try:
        for path, seen in zip(new, spread(look, new, "scan"), strict=True):
            found[path] = by_path[path], seen
    finally:
        if new:
            whole = {path: (*stamp, *seen) for path, (stamp, seen) in found.items() if not seen.error}
            with suppress(OSError):  # a scan that is not kept is done again
                atomic_write(place, json.dumps({"version": VERSION, "files": whole}))
    missing = Seen(error="there is no such file")
    return [found[file.path][1] if file.path in found else missing for file in listing.files]


def _stamp(path: str) -> Stamp | None:
    """Size and time of change, ns; None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _known(place: Path) -> dict[str, tuple[Stamp, Seen]]:
    """What an earlier scan has kept; nothing where that cannot be read."""
    try:
        kept = json.loads(place.read_text())
        if kept["version"] != VERSION:
            return {}
        return {path: ((row[0], row[1]), Seen(*row[2:])) for path, row in kept["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def look(path: str) -> Seen:
    """What the file at ``path`` holds, decoded whole."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Seen(error=str(error.strerror).lower())
    if not content:
        return Seen(error="0 bytes")
    try:
        with opened(content) as image:
            width, height, mode = image.width, image.height, image.mode
            grey = is_grey(flat(image))
    except Exception as error:  # decoders raise whatever they like
        return Seen(error=(str(error) or type(error).__name__).splitlines()[0][:200])
    return Seen(hashlib.sha256(content).hexdigest(), width, height, mode, grey)


def spread(work: Callable[[str], Any], paths: Sequence[str], what: str) -> Iterator[Any]:
    """``work`` done on every path, in order, in as many processes as this one has cores; ``what`` names the bar.

    Raises:
        UserError: one of these processes was ended from outside.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with progress(total=len(paths), desc=what, leave=False) as bar:
        if cores == 1 or len(paths) <= FEW:
            for path in paths:
                yield work(path)
                bar.update()
            return
        pool = ProcessPoolExecutor(cores, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        try:
            for result in pool.map(work, paths, chunksize=CHUNK):
                yield result
                bar.update()
        except BrokenProcessPool:
            raise UserError(f"{what}: a process that decodes images was ended; run it again, it goes on from there") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
