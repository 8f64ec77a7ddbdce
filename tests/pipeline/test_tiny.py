"""The whole pipeline as a user runs it, at its smallest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import yaml
from conftest import TINY, Command

from spaceevo.app.steps import STEPS
from spaceevo.deploy.card import REQUIRED


def cards(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("models/*/card.json"))]


def test_every_step_leaves_its_artifacts_and_a_record(tiny_run: Path) -> None:
    for step in STEPS.values():
        record = json.loads((tiny_run / f"provenance/{step.name}.json").read_text())
        assert record["outputs"] and record["wall_s"] > 0 and record["seed"] == 0
        for pattern in step.outputs:
            assert list(tiny_run.glob(pattern)), pattern


def test_a_model_for_every_limit_with_a_card_of_measured_figures(tiny_run: Path) -> None:
    limits = yaml.safe_load((tiny_run / "space.yaml").read_text())["limits_ms"]
    assert sorted(card["limit_ms"] for card in cards(tiny_run)) == sorted(limits)
    for card in cards(tiny_run):
        assert set(REQUIRED) <= set(card)
        assert card["measured_ms"] <= card["limit_ms"]
        assert card["bytes"] == (tiny_run / "models" / card["name"] / "model.onnx").stat().st_size
        assert card["agreement"] > 98 and card["top1_runtime"] > 50  # ten classes; the tiny recipe learns little more
        assert card["float_convolutions"] == 0
        assert {"flags", "cpu"} <= set(card["host"])


def test_exported_models_are_int8_and_run_alone(tiny_run: Path) -> None:
    for card in cards(tiny_run):
        session = ort.InferenceSession(str(tiny_run / "models" / card["name"] / "model.onnx"))
        image = np.zeros(card["input"]["shape"], np.float32)
        (logits,) = session.run(None, {session.get_inputs()[0].name: image})
        assert logits.shape == (1, 10) and np.isfinite(logits).all()


def test_larger_limits_give_no_less_accurate_models_in_validation(tiny_run: Path) -> None:
    chosen = sorted(yaml.safe_load((tiny_run / "pareto.yaml").read_text())["chosen"], key=lambda entry: entry["limit_ms"])
    accuracies = [entry["top1_val"] for entry in chosen]
    assert accuracies == sorted(accuracies)


def test_benchmark_measures_the_exported_files_and_random_subnets(tiny_run: Path) -> None:
    frame = pd.read_parquet(tiny_run / "benchmark.parquet")
    assert set(frame[frame.kind == "exported"].name) == {card["name"] for card in cards(tiny_run)}
    assert (frame.kind == "random").sum() == 3
    assert (frame[["predicted_ms", "measured_ms", "fp32_ms"]] > 0).all().all()


def test_again_does_nothing_and_a_sweep_searches_only_what_is_new(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    again = command("pipeline", *TINY, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [f"nothing to do: every step is up to date; report at {folder}/report.html"]
    searched = command("search_subnet", "-m", *TINY, "search_subnet.generations=2,1", f"run_dir={folder}")
    assert searched.returncode == 0, searched.stderr
    assert "sweep: 2 jobs, 1 up to date, 1 missing" in searched.stdout  # tiny has two generations
    (pareto,) = folder.glob("multirun/search_subnet/*/pareto.yaml")
    assert pareto.parent.name.endswith("search_subnet.generations=1")
    assert len(yaml.safe_load(pareto.read_text())["chosen"]) == 2
    assert (folder / "pareto.yaml").read_bytes() == (tiny_run / "pareto.yaml").read_bytes()


def test_limits_that_cannot_be_met_name_the_smallest_that_can(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    before = (folder / "pareto.yaml").read_bytes()
    for entrypoint in ("search_space", "search_subnet"):
        done = command(entrypoint, *TINY[:2], "latency.limits_ms=[0.0001]", f"run_dir={folder}")
        assert done.returncode == 2
        assert done.stderr.startswith("error: latency.limits_ms=0.0001: ") and "smallest reachable" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert (folder / "pareto.yaml").read_bytes() == before


def test_onnx_and_tflite_files_and_the_integer_model_give_the_same_integers(tiny_run: Path) -> None:
    from spaceevo.deploy import litert, ort
    from spaceevo.deploy.integer import load_integer
    from spaceevo.deploy.reference import run_integer
    from spaceevo.deploy.tflite_writer import read_labels

    for card in cards(tiny_run):
        folder = tiny_run / "models" / card["name"]
        model = load_integer(folder / "model.safetensors")
        images = np.random.default_rng(0).normal(size=(8, *card["input"]["shape"][1:])).astype(np.float32)
        expected = run_integer(model, images)
        np.testing.assert_array_equal(ort.run_batches(ort.session(folder / "model.onnx"), images), expected)
        np.testing.assert_array_equal(litert.run_batches(litert.interpreter(folder / "model.tflite"), images), expected)
        assert read_labels((folder / "model.tflite").read_bytes()) == card["labels"]
        for figures in (card["files"]["model.onnx"], card["files"]["model.tflite"]):
            assert figures["identical_integers"] == figures["agreement_reference"] == 100
            assert figures["top1"] == card["top1_reference"]
