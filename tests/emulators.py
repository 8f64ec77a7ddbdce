"""A stand-in for an emulated CPU: this machine's Python where qemu-user and another architecture's would be."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from spaceevo.atomic import write_json
from spaceevo.latency.machines.cpus import CPUS
from spaceevo.latency.machines.roots import wanted

#: Where every array that is put together from batches is one more than it should be.
WRONG = "import numpy; whole = numpy.concatenate; numpy.concatenate = lambda parts: whole(parts) + 1"
CRASH = "import os, signal, sys; print('qemu: uncaught signal 11', file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)"


def stand_in(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch, first: str = "pass") -> Path:
    """The folder of the CPU called ``name`` in ``cache``, which is the cache folder from now on; ``first``: what its Python
    runs before what it is asked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = cache / "spaceevo" / "emulated" / name
    (folder / "root/usr/bin").mkdir(parents=True)
    (folder / "root/usr/bin/python3.11").touch()
    run = f'shift 7\nexec {shlex.quote(sys.executable)} -I -c {shlex.quote(first)}"\n$1"'  # -cpu _ -L _ python -I -c
    (folder / "qemu").write_text(f"#!/bin/sh\n{run}\n")
    (folder / "qemu").chmod(0o755)
    write_json(folder / "emulated.json", dict(asked=wanted(CPUS[name]), qemu="qemu-none version 7.2.0 (none)"))
    return folder
