"""The study's subjects are measured by real sessions, in both runtimes, and a study goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert import schema_py_generated as tfl

from spaceevo.deploy.runtimes.registry import Runtime, runtime_called, runtimes_in
from spaceevo.deploy.runtimes.timing import timing_writer
from spaceevo.deploy.studied import MODELS, OPS, WIDTHS, Subject, exported_models, measured, single_ops, whole_models
from spaceevo.errors import UserError
from spaceevo.latency.host import versions
from spaceevo.latency.machines.machine import HERE
from spaceevo.nn.elastic import Quantizer
from spaceevo.report.studied import pairs

INSTALLED = runtimes_in(versions())
Measure = Callable[[Mapping[str, bytes]], Mapping[str, np.ndarray]]


def subjects(runtime: Runtime) -> list[Subject]:
    write = timing_writer(Quantizer(), "symmetric", runtime.name)
    return [*single_ops([8], write), *whole_models(["mobilenet_v3_small", "SEQnet@pixel4-A0"], 32, write)]


def here(runtime: Runtime) -> Measure:
    return lambda files: HERE.measure(runtime.name, files, 2, 2, 1)


@pytest.mark.parametrize("runtime", INSTALLED, ids=lambda runtime: runtime.name)
def test_every_subject_is_measured_in_both_precisions(runtime: Runtime, tmp_path: Path) -> None:
    done: list[int] = []
    frame = measured(subjects(runtime), here(runtime), 2, tmp_path / "rows.parquet", done.append)
    assert done == [0, 5, 8]
    found = frame.groupby(["figure", "name"], sort=False).apply(lambda rows: set(zip(rows.precision, rows.length, strict=True)))
    chains, whole = ({(precision, n) for precision in ("int8", "fp32") for n in lengths} for lengths in ((1, 9), (1,)))
    assert found.to_dict() == {
        **{(OPS, name): chains for name in ("conv", "depthwise", "se", "hswish", "swish")},
        (WIDTHS, "conv1x1-8"): chains,
        **{(MODELS, name): whole for name in ("mobilenet_v3_small", "SEQnet@pixel4-A0")},
    }
    assert (frame.ms > 0).all() and (frame["min"] <= frame.ms).all() and (frame.ms <= frame.p50).all()
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in frame.round_ms)
    assert pd.read_parquet(tmp_path / "rows.parquet").drop(columns="round_ms").equals(frame.drop(columns="round_ms"))
    by_name = frame.drop_duplicates("name").set_index("name")
    assert by_name.images["SEQnet@pixel4-A0"] == "imagenet" and by_name.top1["SEQnet@pixel4-A0"] == 73.6
    assert pd.isna(by_name.images["mobilenet_v3_small"])  # Table 1's accuracy holds at 224 pixels
    assert by_name.resolution["SEQnet@pixel4-A0"] == 160 and by_name.resolution["mobilenet_v3_small"] == 32


def test_accuracies_of_table_1_hold_at_their_resolution() -> None:
    (subject,) = whole_models(["mobilenet_v3_small"], 224, lambda graph: (b"", b""))
    assert dict(subject.facts) | dict(images="imagenet", top1=66.3, top1_fp32=67.4) == dict(subject.facts)


def test_swish_in_int8_is_a_sigmoid_and_a_product() -> None:
    write = timing_writer(Quantizer(), "symmetric", "litert")
    subject = next(subject for subject in single_ops([8], write) if subject.name == "swish")
    (graph,) = tfl.ModelT.InitFromPackedBuf(subject.files()["int8", 9], 0).subgraphs
    assert len(graph.operators) == 18


class Stopped(Exception):
    """Raised in the place of a kill."""


def test_a_stopped_study_keeps_its_rows_and_measures_the_rest(tmp_path: Path) -> None:
    asked: list[int] = []

    def fake(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        asked.append(len(files))
        if len(asked) == 2:
            raise Stopped
        return {name: np.full(4, len(asked) + len(content) / 1e9) for name, content in files.items()}

    part, names = tmp_path / "rows.parquet", subjects(runtime_called("onnxruntime"))
    with pytest.raises(Stopped):
        measured(names, fake, 2, part, lambda done: None)
    kept = pd.read_parquet(part)
    begun: list[int] = []
    frame = measured(names, fake, 2, part, begun.append)
    assert asked == [20, 8, 8] and begun == [5, 8]
    assert frame.ms[: len(kept)].tolist() == kept.ms.tolist() and len(frame) == 28
    measured(names, fake, 2, part, lambda done: None)
    assert len(asked) == 3  # nothing is left


@pytest.mark.parametrize("runtime", INSTALLED, ids=lambda runtime: runtime.name)
def test_exported_models_are_measured_by_their_own_files(runtime: Runtime, tiny_run: Path, tmp_path: Path) -> None:
    cards = sorted(tiny_run.glob("models/*/card.json"))
    found = list(exported_models(cards, runtime))
    assert [subject.name for subject in found] == [json.loads(path.read_text())["name"] for path in cards]
    for path, subject in zip(cards, found, strict=True):
        files, card = subject.files(), json.loads(path.read_text())
        assert files["int8", 1] == (path.parent / runtime.int8).read_bytes()
        assert (("fp32", 1) in files) == (path.parent / runtime.fp32).exists()
        assert subject.facts["top1"] == card["top1_runtime"] and subject.facts["images"] == "digits"
    frame = measured(found, here(runtime), 2, tmp_path / "rows.parquet", lambda done: None)
    for pair in pairs(frame):
        assert (pair.speedup > 0) == (runtime.name == "onnxruntime") and pair.int8_ms > 0
        assert pair.verdict == "not told" or pair.speedup > 0


def test_a_broken_card_is_named(tmp_path: Path) -> None:
    card = tmp_path / "models/a/card.json"
    card.parent.mkdir(parents=True)
    card.write_text("{")
    with pytest.raises(UserError, match=r"card\.json: truncated or not JSON"):
        list(exported_models([card], runtime_called("onnxruntime")))
