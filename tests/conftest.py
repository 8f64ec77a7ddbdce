"""What the tests share: command lines run as a user runs them, and one finished run of ``experiment=tiny``."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Limits that every subnet keeps on any machine, however busy: what is tested is not this machine's speed.
TINY = ("experiment=tiny", "threads=1", "latency.limits_ms=[1,2]")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``command("train", "stage=bkd")`` runs ``python -m spaceevo.train stage=bkd`` in an empty folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    env.pop("SPACEEVO_DEBUG", None)

    def run(entrypoint: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        module = f"spaceevo.{entrypoint}" if entrypoint else "spaceevo"
        line = [sys.executable, "-m", module, *arguments]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The run folder of ``python -m spaceevo.pipeline experiment=tiny``: made once for all workers; read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "tiny-run"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}"]
    with open(shared / "tiny-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(line, cwd=shared, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder
