"""``make import-demo`` at its smallest: the commands that it runs, and the table that it ends with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SMALL = [
    "profile.blocks=24",
    "profile.subnets=12",
    "profile.rounds=4",
    "profile.runs=5",
    "supernet.epochs=1",
    "qat.images=256",
    "finish.epochs=2",
    "search_subnet.judge_images=20",
    "search_subnet.population=4",
    "search_subnet.parents=2",
    "search_subnet.generations=1",
    "search_subnet.measure_top=2",
    "search_subnet.calibration_images=64",
    "benchmark.random_subnets=0",
    "benchmark.rounds=4",
    "benchmark.runs=5",
    "benchmark.spread_s=0",
    "export.tolerance=80",
    "export.mean_difference=3",
    "latency.limits_ms=[2]",
    "threads=1",
    "trainer.progress_bar=false",
]


@pytest.mark.slow
def test_it_ends_with_both_models_and_what_the_import_costs(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "tests/import_demo.py"), "demo", *SMALL, "--known", "60", "--new", "20", "--test", "30"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trained quantization-aware, with its own head" in done.stdout and "with a new head, fitted" in done.stdout
    table = done.stdout[done.stdout.index("Imported again") :]
    changes = re.findall(r"(largest|smallest), imported: (.+?) +([\d.]+) +([\d.]+)\n", table)
    assert len(changes) == 8 and {who for who, what, agreed, _ in changes if (what, agreed) == ("as released", "100.00")} == {
        "largest",
        "smallest",
    }
    rows = re.findall(r"(the released supernet|nothing) +(\d+) +([\d.]+) +([\d.]+) +(\S+)\n", table)
    assert [row[0] for row in rows] == ["the released supernet", "nothing"] and rows[0][1] == rows[1][1]
    assert all((tmp_path / row[4] / "model.tflite").exists() for row in rows)
    worth = re.findall(r"is worth ([+-][\d.]+) points", table)
    assert list(map(float, worth)) == [pytest.approx(float(rows[0][2]) - float(rows[1][2]), abs=0.011)]  # they are rounded
