"""The whole pipeline as a user runs it, at its smallest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
import yaml
from conftest import TINY, Command

from spaceevo.app.config import compose
from spaceevo.data import load_data, normalize
from spaceevo.deploy.claims.card import REQUIRED
from spaceevo.evolution import GeneCode, hypervolume, pareto_front
from spaceevo.latency.limits import HEADROOM
from spaceevo.latency.predictor import Predictor
from spaceevo.space import SearchSpace, Subnet
from spaceevo.steps import STEPS
from spaceevo.steps.common import quantizer
from spaceevo.steps.needs import hyperspace
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.subnets import Seen, SubnetEvaluator


def cards(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("models/*/card.json"))]


def test_every_step_leaves_its_artifacts_and_a_record(tiny_run: Path) -> None:
    for step in (step for step in STEPS.values() if not step.optional):
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
        image = np.zeros(card["input"]["shape"], np.uint8)
        (logits,) = session.run(None, {session.get_inputs()[0].name: image})
        assert logits.shape == (1, 10) and np.isfinite(logits).all()


def test_larger_limits_give_no_less_accurate_models_in_validation(tiny_run: Path) -> None:
    chosen = sorted(yaml.safe_load((tiny_run / "pareto.yaml").read_text())["chosen"], key=lambda entry: entry["limit_ms"])
    losses = [entry["loss_finalists"] for entry in chosen]
    assert losses == sorted(losses, reverse=True)


def test_front_and_chosen_are_judged_by_images_that_chose_nothing(tiny_run: Path) -> None:
    cfg = compose("search_subnet", [*TINY, f"run_dir={tiny_run}"])
    net, space = load_supernet(tiny_run / "qat.ckpt", hyperspace(cfg))
    images, recipe = load_data(cfg.data), cfg.search_subnet
    calibration = normalize(images.train[: recipe.calibration_images], cfg.data)

    def seen(subnets: list[str], which: slice) -> list[Seen]:
        validation = normalize(images.val[which], cfg.data), images.val_labels[which]
        return SubnetEvaluator(net, quantizer(cfg), calibration, *validation).seen([Subnet.parse(space, s) for s in subnets])

    found = yaml.safe_load((tiny_run / "pareto.yaml").read_text())
    entries = [*found["chosen"], *found["front"]]
    judges = slice(-recipe.judge_images, None)
    for key, which in (("top1_val", judges), ("top1_search", slice(recipe.validation_images))):
        told = seen([entry["subnet"] for entry in entries], which)
        assert [entry[key] for entry in entries] == pytest.approx([each.top1 for each in told])
    finalists = slice(-recipe.judge_images)
    expected = [each.loss for each in seen([entry["subnet"] for entry in found["chosen"]], finalists)]
    assert [entry["loss_finalists"] for entry in found["chosen"]] == pytest.approx(expected)


def test_the_front_is_of_the_judged_the_chosen_among_them(tiny_run: Path) -> None:
    found = yaml.safe_load((tiny_run / "pareto.yaml").read_text())
    frame = pd.read_parquet(tiny_run / "subnets.parquet")
    judged = frame.dropna(subset="top1_val")
    assert {entry["subnet"] for entry in found["chosen"]} <= set(judged.subnet) and len(judged) < len(frame)
    search_front = pareto_front(frame.predicted_ms.to_numpy(), -frame.loss_search.to_numpy())
    assert set(frame.subnet[search_front]) <= set(judged.subnet)
    front = judged.iloc[pareto_front(judged.predicted_ms.to_numpy(), judged.top1_val.to_numpy())]
    assert front.subnet.tolist() == [entry["subnet"] for entry in found["front"]]
    assert set(frame.subnet[frame.front]) == set(front.subnet)
    reference = found["reference"]
    assert reference == {"predicted_ms": 2, "top1_val": 10} and "chance level of 10 classes" in found["reference_is"]
    volume = hypervolume(front.predicted_ms.to_numpy(), front.top1_val.to_numpy(), (2, 10))
    assert found["hypervolume"] == pytest.approx(volume)


def test_subnets_are_searched_without_a_supernet_too(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("*.ckpt"))
    more = ("search_subnet.quality=lut", "search_subnet.judge_images=5000")  # images play no part
    done = command("search_subnet", *TINY, *more, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load((folder / "pareto.yaml").read_text())
    frame = pd.read_parquet(folder / "subnets.parquet")
    assert not frame.nsr.isna().any() and "top1_val" not in frame
    front = pareto_front(frame.predicted_ms.to_numpy(), -frame.nsr.to_numpy())
    assert [entry["nsr"] for entry in found["front"]] == frame.nsr[front].tolist()
    assert all(entry["top1_val"] is None and entry["nsr"] > 0 for entry in found["chosen"])
    assert found["reference"]["nsr"] > max(frame.nsr[front]) and "worst NSR" in found["reference_is"]


def test_the_search_says_how_long_it_takes_and_what_to_widen(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    done = command("search_subnet", *TINY, "search_subnet.generations=1", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^search_subnet: about \d+ s for 24 subnets$", done.stdout, re.M)
    edges = re.findall(r"^search_subnet: (\d) ms: the subnet leaves \d\d % of the latency unused", done.stdout, re.M)
    assert edges == ["1", "2"]  # every subnet keeps both limits by far


def test_judging_by_images_that_chose_is_refused(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    done = command("search_subnet", *TINY, "search_subnet.judge_images=101", f"run_dir={tiny_run}", f"out_dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == (
        "error: search_subnet.judge_images=101: must be at most data.validation - search_subnet.validation_images = 100\n"
    )


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


def test_found_space_has_a_subnet_within_the_smallest_limit_and_else_that_is_told(
    tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    """Its draws join rows whose widths do not fit, and so would meet limits that no subnet does."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("models", "*.ckpt", "bkd"))
    predictor = Predictor.load(folder / "latency/predictor.json")

    def fastest_ms(space: SearchSpace) -> float:
        predicted_ms = predictor.costs(GeneCode(space))
        return float(predicted_ms(predicted_ms.cheapest())[0])

    def found(limit: float) -> subprocess.CompletedProcess[str]:
        line = (*TINY[:2], f"latency.limits_ms=[{limit},1]", "search_space.evaluations=200", f"run_dir={folder}")
        return command("search_space", *line)

    hs = hyperspace(compose("search_space", list(TINY)))
    some = sorted(fastest_ms(SearchSpace.sample(hs, np.random.default_rng(seed))) for seed in range(40))
    limit = some[2] / HEADROOM  # for few spaces of twenty
    done = found(limit)
    assert done.returncode == 0, done.stderr
    space = SearchSpace.parse(yaml.safe_load((folder / "space.yaml").read_text())["space"], hs)
    assert fastest_ms(space) <= HEADROOM * limit
    narrow = (space for space in SearchSpace.all(hs) if not any(space.windows))  # the fastest of all is among them
    done = found(0.8 * min(map(fastest_ms, narrow)) / HEADROOM)
    assert done.returncode == 2
    assert "smallest reachable" in done.stderr or "of every space tried" in done.stderr


def test_onnx_and_tflite_files_and_the_integer_model_give_the_same_integers(tiny_run: Path) -> None:
    from spaceevo.deploy.files.tflite_writer import read_labels
    from spaceevo.deploy.integer.model import load_integer
    from spaceevo.deploy.integer.reference import run_integer
    from spaceevo.deploy.runtimes import litert, ort

    for card in cards(tiny_run):
        folder = tiny_run / "models" / card["name"]
        model = load_integer(folder / "model.safetensors")
        images, data = np.random.default_rng(0).integers(0, 256, (8, *card["input"]["shape"][1:]), np.uint8), card["data"]
        normalized = ((images / 255 - data["mean"][0]) / data["std"][0]).astype(np.float32)
        expected = run_integer(model, normalized)
        np.testing.assert_array_equal(ort.run_batches(ort.session(folder / "model.onnx"), images), expected)
        np.testing.assert_array_equal(litert.run_batches(litert.interpreter(folder / "model.tflite"), images), expected)
        assert read_labels((folder / "model.tflite").read_bytes()) == card["labels"]
        for figures in (card["files"]["model.onnx"], card["files"]["model.tflite"]):
            assert figures["identical_integers"] == figures["agreement_reference"] == 100
            assert figures["top1"] == card["top1_reference"]
