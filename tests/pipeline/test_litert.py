"""The whole pipeline where LiteRT is the runtime that latencies are measured in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY
from processes import forked

from spaceevo.deploy.runtimes.registry import RUNTIMES, measure_files
from spaceevo.latency.machines.machine import HERE
from spaceevo.latency.measure import latency

#: Of LiteRT's files that a tiny run left on one machine; another machine's latency may be another.
FAR = 3.0


@pytest.mark.slow
def test_limits_cards_and_files_are_litert_s(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = forked([sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}", "runtime=litert"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "latency/host.json").read_text())["runtime"] == "litert"
    runtime = RUNTIMES[".tflite"]
    for path in folder.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert card["runtime"] == "litert" and set(card["files"]) == {"model.onnx", "model.tflite", "fp32.tflite"}
        assert card["measured_ms"] == card["files"][runtime.int8]["measured_ms"] <= card["limit_ms"]
        assert card["fp32_ms"] == card["files"][runtime.fp32]["measured_ms"]
        assert all(card["files"][name]["identical_integers"] == 100 for name in ("model.onnx", "model.tflite"))
        (times,) = measure_files(
            {"model.tflite": (path.parent / "model.tflite").read_bytes()}, HERE, None, 3, 20, 1, 0.0
        ).values()
        assert 1 / FAR < latency(times) / card["measured_ms"] < FAR
        line = [sys.executable, "-m", "spaceevo.verify", f"path={path.parent}", f"out_dir={tmp_path}"]
        verified = forked(line, tmp_path)
        assert verified.returncode == 0 and "model.tflite" in verified.stdout, verified.stdout + verified.stderr
    assert (pd.read_parquet(folder / "benchmark.parquet").measured_ms > 0).all()
    assert "in litert" in (folder / "report.html").read_text()
