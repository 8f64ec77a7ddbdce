"""``make portability`` where nothing can be fetched: what is not here is skipped, and why; what is here is compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from portability import RUNTIMES, row


@pytest.mark.slow
def test_what_cannot_be_had_is_skipped_with_its_reason(tiny_run: Path, tmp_path: Path) -> None:
    offline = dict(PIP_NO_INDEX="1", PIP_FIND_LINKS="", npm_config_offline="true", npm_config_cache=str(tmp_path / "npm"))
    line = [sys.executable, str(ROOT / "tests/portability.py"), str(tiny_run), "--images", "20", "--folder", str(tmp_path)]
    done = subprocess.run(line, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = {"OpenVINO"} if find_spec("openvino") else set()
    skipped = {text.split(":")[0]: text for text in done.stdout.splitlines() if "skipped, " in text}
    assert set(skipped) == set(RUNTIMES) - here
    assert "no node and npm here" in skipped["onnxruntime-web"] or shutil.which("npm")
    assert "No matching distribution found for tflite-micro" in skipped["TFLite Micro"]
    rows = [text.split(" | ") for text in done.stdout.splitlines() if text.startswith("| host-")]
    assert len(rows) == len(here) * len(list(tiny_run.glob("models/*/card.json")))
    assert all(one[1].startswith("OpenVINO 20") and one[2] == "20" for one in rows)


def test_a_row_counts_labels_and_steps() -> None:
    reference = np.array([[0.0, 1.0, 0.5], [2.0, 0.0, 0.0]], np.float32)
    given = np.array([[0.0, 1.0, 2.0], [2.0, 0.5, 0.0]], np.float32)
    assert row("X 1", given, reference, 0.5) == "X 1 | 2 | 50.00 % | 3 | 66.67 %"
