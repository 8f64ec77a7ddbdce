"""SIGKILL in the middle of a step, and the same command again: the same artifacts as if nothing had happened."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY, forked, kill_when

#: A file that says the step is under way and has something to go on from, and the step's artifact, not there yet.
MID_STEP = (
    ("partial/teacher/last.ckpt", "teacher.ckpt"),
    ("partial/bkd/fp32/done.json", "lut.parquet"),
    ("partial/supernet/last.ckpt", "supernet.ckpt"),
    ("partial/tau/evaluated.json", "tau.parquet"),
    ("partial/search_subnet/evaluated.json", "pareto.yaml"),
)
WEIGHTS = (
    "teacher.ckpt", "bkd/*.safetensors", "supernet.ckpt", "qat.ckpt", "lut.parquet", "search_space.parquet", "tau.parquet",
    "subnets.parquet",
)  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    paths = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.slow
def test_killed_in_five_steps_ends_with_the_same_weights_bit_for_bit(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # The device's latencies are measured and so never twice the same: both runs start from one profile.
    shutil.copytree(tiny_run / "latency", folder / "latency")
    for record in ("profile", "predictor"):
        (folder / "provenance").mkdir(exist_ok=True)
        shutil.copy2(tiny_run / f"provenance/{record}.json", folder / "provenance")
    shutil.copy2(tiny_run / "run.yaml", folder)
    line = [sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}"]
    for kept, artifact in MID_STEP:
        killer = tmp_path / artifact
        killer.mkdir()
        kill_when(folder / kept, line, killer)
        assert not (folder / artifact).exists()
    done = forked(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "teacher:" not in done.stdout and "bkd:" not in done.stdout
    assert hashes(folder) == hashes(tiny_run)
    assert not (folder / "partial").exists()
    assert not list(folder.rglob(".*.tmp*"))
