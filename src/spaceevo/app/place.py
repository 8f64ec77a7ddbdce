"""Whether a run folder can be one, seen before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from spaceevo.errors import bad_value


def check_folder(key: str, value: str, writes: bool = True) -> None:
    """Raises:
    UserError: ``key=value`` is empty, the root of the file system, below a file, or, with ``writes``, cannot be written to.
    """
    if not value.strip() or "\0" in value:
        raise bad_value(key, value, "the path of a folder")
    try:
        path = Path(value).absolute()
        if path.resolve() == Path(path.anchor):
            raise bad_value(key, value, "a folder below the root of the file system")
        there = next(place for place in (path, *path.parents) if place.exists())
    except OSError as error:
        raise bad_value(key, value, f"the path of a folder ({error.strerror})") from None
    if not there.is_dir():
        raise bad_value(key, value, f"the path of a folder; {there} is a file")
    if writes and not os.access(there, os.W_OK | os.X_OK):
        raise bad_value(key, value, f"a folder that can be written to; {there} cannot")
