"""The whole pipeline where another runtime than onnxruntime is the one that latencies are measured in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY
from processes import forked

from spaceevo.deploy.claims.ran import in_runtime
from spaceevo.deploy.runtimes.registry import RUNTIMES, measure_files
from spaceevo.latency.machines.machine import HERE
from spaceevo.latency.measure import latency
from spaceevo.latency.runtimes.call import PACKAGES

#: Of a runtime's files that a tiny run left on one machine; another machine's latency may be another.
FAR = 3.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_limits_cards_and_files_are_the_runtime_s(name: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name].replace("-", "_"))
    folder, runtime = tmp_path / "run", RUNTIMES[name]
    done = forked([sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}", f"runtime={name}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "latency/host.json").read_text())["runtime"] == name
    for path in folder.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert card["runtime"] == name and set(card["files"]) == {"model.onnx", "model.tflite", runtime.fp32}
        assert all(card["files"][file]["identical_integers"] == 100 for file in ("model.onnx", "model.tflite"))
        int8, fp32 = (in_runtime(card, runtime)[file] for file in (runtime.int8, runtime.fp32))
        assert card["measured_ms"] == int8["measured_ms"] <= card["limit_ms"] and card["fp32_ms"] == fp32["measured_ms"]
        assert (card["top1_runtime"], card["agreement"]) == (int8["top1"], int8["agreement"])
        files = {runtime.int8: (path.parent / runtime.int8).read_bytes()}
        (times,) = measure_files(files, HERE, [runtime], 3, 20, 1, 0.0)[name].values()
        assert 1 / FAR < latency(times) / card["measured_ms"] < FAR
        line = [sys.executable, "-m", "spaceevo.verify", f"path={path.parent}", f"out_dir={tmp_path}"]
        verified = forked(line, tmp_path)
        assert verified.returncode == 0 and f"top-1 in {name}" in verified.stdout, verified.stdout + verified.stderr
    assert (pd.read_parquet(folder / "benchmark.parquet").measured_ms > 0).all()
    assert f"in {name}" in (folder / "report.html").read_text()
