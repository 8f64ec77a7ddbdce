"""The wheel works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_wheel_works_in_an_empty_folder_with_its_configs(tmp_path: Path) -> None:
    tree, site, empty = tmp_path / "tree", tmp_path / "site", tmp_path / "empty"
    unwanted = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("spaceevo-*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run([sys.executable, "-m", *arguments], cwd=empty, env=env, capture_output=True, text=True)

    where = run("spaceevo.train", "experiment=tiny", "--cfg", "job", "--resolve")
    assert "name: tiny" in where.stdout and where.returncode == 0
    assert "experiment: a whole run" in run("spaceevo.pipeline", "--help").stdout
    assert (
        run("spaceevo.train", "device=nope").stderr
        == "error: device=nope: no such device; there are: adb, host, intel_vnni, pixel4, ssh\n"
    )
    assert run("spaceevo.describe", "model=SEQnet@vnni-A0").returncode == 0
    for file in (
        "report/template.html",
        "report/style.css",
        "report/cards.html",
        "report/baselines.html",
        "report/sweep.html",
        "latency/fitted/pixel4.json",
    ):
        assert (site / "spaceevo" / file).exists()
    for path in (ROOT / "conf").glob("**/*.yaml"):
        assert (site / "spaceevo" / path.relative_to(ROOT)).read_text() == path.read_text()
    for path in (ROOT / "experiments").glob("*.yaml"):
        assert (site / "spaceevo/conf/experiment" / path.name).exists()
