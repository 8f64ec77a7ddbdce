"""``python -m spaceevo.study_quantization``: killed and resumed, beside a run's models, and refused in a line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import Command, kill_when

from spaceevo.app.config import compose
from spaceevo.app.run import is_done

SMALL = [
    "study.models=[mobilenet_v3_small]", "study.resolution=32", "study.widths=[8]", "study.rounds=1", "study.runs=1",
    "study.spread_s=0",
]  # fmt: skip
OPS = ["conv", "depthwise", "se", "hswish", "swish"]


@pytest.mark.slow
def test_a_killed_study_goes_on_and_a_device_and_runtime_has_a_folder_of_its_own(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "runs/study-host-litert"
    part = run / "partial/study_quantization/rows.parquet"
    line = [sys.executable, "-m", "spaceevo.study_quantization", "runtime=litert", *SMALL]
    kill_when(part, line, tmp_path)
    kept = pd.read_parquet(part)
    assert 0 < len(kept) < 26
    done = command("study_quantization", "runtime=litert", *SMALL)
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(run / "study/rows.parquet")
    assert rows.ms[: len(kept)].tolist() == kept.ms.tolist() and len(rows) == 26
    assert rows.drop_duplicates("name").name.tolist() == [*OPS, "conv1x1-8", "mobilenet_v3_small"]
    host = json.loads((run / "study/host.json").read_text())
    assert host["runtime"] == "litert" and host["rounds"] == 1 and {"cpu", "flags", "before", "after", "versions"} <= set(host)
    assert not part.exists() and (run / "study/study.html").exists() and (run / "study/figures/ops.png").exists()
    said = done.stdout.splitlines()
    assert [line.split()[:2] for line in said if line[:1] in "12"] == [*(["2a", op] for op in OPS), ["2b", "conv1x1-8"],
                                                                       ["1", "mobilenet_v3_small"]]  # fmt: skip
    assert any(line.startswith("study_quantization: INT8 speed-up of the other networks: ") for line in said)
    again = command("study_quantization", "runtime=litert", *SMALL)
    assert again.stdout == "study_quantization: up to date (runs/study-host-litert)\n"


def test_a_runs_models_are_measured_too_whatever_its_config(command: Command, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run / "models", run / "models")
    arguments = [*SMALL, f"run_dir={run}", f"out_dir={tmp_path / 'study'}", "device.name=elsewhere"]
    done = command("study_quantization", *arguments)
    assert done.returncode == 0, done.stderr
    cards = [json.loads(path.read_text()) for path in sorted(run.glob("models/*/card.json"))]
    rows = pd.read_parquet(tmp_path / "study/study/rows.parquet")
    mine = rows[rows.images == "digits"].drop_duplicates("name")
    assert mine.name.tolist() == [card["name"] for card in cards] and mine.top1.tolist() == [c["top1_runtime"] for c in cards]
    assert [path.name for path in run.iterdir()] == ["models"]
    cfg = compose("study_quantization", arguments)
    assert is_done("study_quantization", cfg)
    first = next(run.glob("models/*/card.json"))
    first.write_text(first.read_text() + "\n")
    assert not is_done("study_quantization", cfg)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["device=pixel4"],
            "device=pixel4: is not here to be measured (runtime none); the study_quantization measures device=",
        ),
        (["device=ssh"], "device.host=null: device.at=ssh needs one"),
        (["study.models=[resnet19]"], "study.models=resnet19: no such models; there are: mobilenet_v2,"),
        (["study.pixels=3"], "study.pixels: no such key; study has: models, widths, resolution, rounds, runs, spread_s"),
        (["run_dir=run"], "run/models/a/card.json: truncated or not JSON; export the model again"),
    ],
)
def test_bad_input_is_refused_in_a_line(command: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    card = tmp_path / "run/models/a/card.json"
    card.parent.mkdir(parents=True)
    card.write_text("{")
    done = command("study_quantization", *arguments)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {said}")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["card.json"]
