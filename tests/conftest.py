"""What the tests share: command lines run as a user runs them, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
