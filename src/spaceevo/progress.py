"""How far a piece of work is, on standard error: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

EVERY_S = 30.0


class Lines(tqdm):
    """A bar as lines: none in the first ``EVERY_S`` seconds, then one each."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "mininterval": EVERY_S, "delay": EVERY_S, "leave": False, "ncols": 100})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """A line, but for the empty ones that wipe a bar away."""
        if msg is None:
            print(self, file=self.fp, flush=True)


def progress(*arguments: Any, show: bool = True, **named: Any) -> tqdm:
    """A ``tqdm`` with these arguments, as bar or as lines; nothing unless ``show``."""
    kind = tqdm if on_terminal() else Lines
    return kind(*arguments, **named, disable=not show)


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()
