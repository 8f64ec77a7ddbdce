"""What processes of `test_beside` do; apart, so that they need not import torch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from spaceevo.errors import UserError


def write(threads: int, folder: Path, name: str) -> None:
    (folder / name).write_text(f"{threads} {os.getpid()}")


def refuse(threads: int, folder: Path, name: str) -> None:
    if name == "bad":
        raise UserError("bad=1: must be 0")
    time.sleep(600)


def die(threads: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(threads: int, file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(600)
