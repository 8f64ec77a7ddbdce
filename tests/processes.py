"""Command lines in processes of their own, whole ones and some that are stopped from outside.

Beside ``conftest.py``, which pytest loads once more than the tests that import of it: the process kept here is one a worker.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: This working tree first, then what whoever runs the tests has put beside the environment.
PATHS = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
#: Seconds after which a command line hangs, on a slow and busy machine too.
PATIENCE_S = 1800
#: A process to be stopped runs this first. The files are looked for whenever one is opened or renamed: so it is always the same
#: moment, the first after they are there, whatever the machine's speed. Processes that this one starts are left alone.
STOP = """
import glob, os, sys

pattern, number, mine = os.environ.pop("STOP_WHEN"), int(os.environ.pop("STOP_BY")), [os.getpid()]

def look(event, _):
    if event in ("open", "os.rename") and os.getpid() in mine and glob.glob(pattern):
        os.kill(mine.pop(), number)

sys.addaudithook(look)
"""


@cache
def _warm() -> subprocess.Popen[str]:
    """A process that has imported the large libraries, and forks one of its own for every command line."""
    env = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    env["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    line = [sys.executable, str(ROOT / "tests/warm.py")]
    return subprocess.Popen(line, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def forked(
    line: Sequence[str], folder: Path, first: str = "", timeout: float = PATIENCE_S, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command line ``python -m <module> <arguments>`` in a process of its own (``warm.py``), in ``folder``. ``first``: code
    that it begins with; ``more`` of its environment."""
    _, _, module, *arguments = line
    env = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", **more}
    env.pop("SPACEEVO_DEBUG", None)
    server = _warm()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as said:
        paths = dict(stdout=f"{said}/stdout", stderr=f"{said}/stderr")
        request = dict(module=module, arguments=arguments, folder=str(folder), env=env, first=first, timeout=timeout)
        print(json.dumps(request | paths), file=server.stdin, flush=True)
        status = json.loads(server.stdout.readline())
        if status is None:
            raise subprocess.TimeoutExpired(line, timeout)
        return subprocess.CompletedProcess(line, status, *(Path(path).read_text() for path in paths.values()))


def stop_when(pattern: Path, line: list[str], folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Run a command line in ``folder``, send it a signal as soon as there are files of ``pattern`` (absolute, a glob), and wait
    for its end."""
    assert not glob.glob(str(pattern))
    done = forked(line, folder, STOP, STOP_WHEN=str(pattern), STOP_BY=str(int(number)))
    assert glob.glob(str(pattern)), done.stdout + done.stderr
    return done


def kill_when(pattern: Path, line: list[str], folder: Path) -> None:
    """As :func:`stop_when`, by SIGKILL."""
    done = stop_when(pattern, line, folder, signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
