"""What the tests share: command lines run as a user runs them, and one finished run of ``experiment=tiny``."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
#: Limits that every subnet keeps on any machine, however busy: what is tested is not this machine's speed.
TINY = ("experiment=tiny", "threads=1", "latency.limits_ms=[1,2]")
#: Seconds after which a command line hangs, on a slow and busy machine too.
PATIENCE_S = 1800
Command = Callable[..., "subprocess.CompletedProcess[str]"]
#: A process to be killed runs this first. The files are looked for whenever one is opened or renamed: so it is always the same
#: moment, the first after they are there, whatever the machine's speed. Processes that this one starts are left alone.
KILL = """
import glob, os, signal, sys

pattern, mine = os.environ.pop("KILL_WHEN"), os.getpid()

def look(event, _):
    if event in ("open", "os.rename") and os.getpid() == mine and glob.glob(pattern):
        os.kill(mine, signal.SIGKILL)

sys.addaudithook(look)
"""

#: HYPOTHESIS_PROFILE=same (`make test`): always the same examples; else (`make test-all`) new ones every time. How long an
#: example takes, which is the machine's matter, fails neither.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "new"))


@cache
def _warm() -> subprocess.Popen[str]:
    """A process that has imported the large libraries, and forks one of its own for every command line."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(ROOT / "tests/warm.py")]
    return subprocess.Popen(line, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def forked(
    line: Sequence[str], folder: Path, first: str = "", timeout: float = PATIENCE_S, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command line ``python -m <module> <arguments>`` in a process of its own (``warm.py``), in ``folder``. ``first``: code
    that it begins with; ``more`` of its environment."""
    _, _, module, *arguments = line
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **more}
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


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``command("train", "stage=bkd")`` runs ``python -m spaceevo.train stage=bkd`` in an empty folder."""

    def run(entrypoint: str, *arguments: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        module = f"spaceevo.{entrypoint}" if entrypoint else "spaceevo"
        return forked([sys.executable, "-m", module, *arguments], tmp_path, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The run folder of ``python -m spaceevo.pipeline experiment=tiny``: made once for all workers; read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "tiny-run"
    line = [sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}"]
    with open(shared / "tiny-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = forked(line, shared)
    assert done.returncode == 0, done.stderr
    return folder


def kill_when(pattern: Path, line: list[str], folder: Path) -> None:
    """Run a command line in ``folder``, SIGKILL it as soon as there are files of ``pattern`` (absolute, a glob), and wait for
    its end."""
    assert not glob.glob(str(pattern))
    done = forked(line, folder, KILL, KILL_WHEN=str(pattern))
    assert done.returncode == -signal.SIGKILL and glob.glob(str(pattern)), done.stdout + done.stderr
