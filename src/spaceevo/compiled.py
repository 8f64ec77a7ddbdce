"""numba's compiler with a cache that works wherever the package is installed, and without where nothing can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import config


def njit(*signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit``, its results kept beside the package, else in the user's cache, else in a temporary folder."""

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(*signature, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
        config.CACHE_DIR = _temporary()
        return numba.njit(*signature, cache=bool(config.CACHE_DIR), **options)(function)

    return compiled


def _temporary() -> str:
    """A folder that only this user can write to, the same every time; empty where there can be none."""
    folder = Path(tempfile.gettempdir()) / f"spaceevo-numba-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == os.getuid() and not found.st_mode & 0o077 and os.access(folder, os.W_OK):
            return str(folder)
    return ""
