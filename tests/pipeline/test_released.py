"""A supernet in the authors' format, from writing to models: with its own head, and with a new one for other images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, forked
from own_images import two_classes

from spaceevo.space import SearchSpace, Subnet
from spaceevo.training.checkpoint import load_checkpoint

SPACE = "tiny-1212-0000"
AS_THE_AUTHORS = ["supernet.smallest=true", "qat.smallest=true"]
SMALL = [
    *TINY, *AS_THE_AUTHORS, f"space={SPACE}", "device.weight_bits=8", "tau.subnets=0", "benchmark.random_subnets=0",
    "latency.limits_ms=[2]",
]  # fmt: skip
CHANGES = ["as released", "whole zero points", "a range for every tensor", "BatchNorm statistics recalibrated"]
NOTHING_TRAINED = ["supernet.epochs=0", "qat.epochs=0", "finish.epochs=0"]


def spaceevo(command: str, folder: Path, *arguments: str) -> str:
    done = forked([str(ROOT), "-m", f"spaceevo.{command}", *arguments], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A tiny supernet of digits as the authors would release it, and what training and writing it said."""
    folder = tmp_path_factory.mktemp("released")
    said = spaceevo("train", folder, "stage=supernet", *SMALL, "run_dir=ours")
    said += spaceevo("train", folder, "stage=qat", *SMALL, "run_dir=ours")
    said += spaceevo("release", folder, *SMALL, "run_dir=ours")
    return folder / "ours/lsq.pth", said


def accuracies(said: str) -> list[float]:
    return [float(value) for value in re.findall(r"qat: largest ([\d.]+) %, smallest ([\d.]+) %", said)[0]]


def test_it_is_what_it_was_and_leads_to_models_without_training(written: tuple[Path, str], tmp_path: Path) -> None:
    path, before = written
    said = spaceevo("pipeline", tmp_path, *SMALL, *NOTHING_TRAINED, f"released={path}", "run_dir=run")
    assert f"supernet: begins as {path}, trained quantization-aware, with its own head" in said
    for old, new in zip(accuracies(before), accuracies(said), strict=True):
        assert abs(old - new) <= 3  # the ranges of a few tensors are fitted anew
    costs = load_checkpoint(tmp_path / "run/qat.ckpt")["import_costs"]
    assert list(costs) == ["largest, imported", "smallest, imported"]
    for who, rows in costs.items():
        assert [what for what, _, _ in rows] == CHANGES
        assert rows[0][1] == 100 and all(agreed >= 95 for _, agreed, _ in rows[:3])  # recalibrated: of its own
        told = "; ".join(f"{what}: {agreed:.1f} %, top-1 {top1:.1f} %" for what, agreed, top1 in rows)
        assert f"qat: {who}: the released one's label for 200 images: {told}" in said
    cards = [json.loads(card.read_text()) for card in tmp_path.glob("run/models/*/card.json")]
    files = [claims for card in cards for claims in card["files"].values() if claims["precision"] == "int8"]
    assert files and all(claims["identical_integers"] == 100 for claims in files)
    assert all(card["top1_runtime"] > 60 for card in cards)


def test_what_training_after_the_import_changes_is_told_too(written: tuple[Path, str], tmp_path: Path) -> None:
    asked = [*SMALL, f"released={written[0]}", "supernet.epochs=0", "qat.images=128", "run_dir=run"]
    spaceevo("train", tmp_path, "stage=supernet", *asked)
    said = spaceevo("train", tmp_path, "stage=qat", *asked)
    costs = load_checkpoint(tmp_path / "run/qat.ckpt")["import_costs"]
    assert list(costs) == [f"{who}, {when}" for when in ("imported", "after 2 steps") for who in ("largest", "smallest")]
    assert [what for what, _, _ in costs["largest, after 2 steps"]] == [CHANGES[0], CHANGES[-1]]
    assert "qat: largest, after 2 steps: the released one's label for 200 images: as released: 100.0 %" in said
    ends = [costs[f"{who}, after 2 steps"][-1][2] for who in ("largest", "smallest")]
    assert ends == pytest.approx(accuracies(said), abs=0.01)  # what was trained, on the same images


def test_one_subnet_can_be_asked_for_by_its_encoding(written: tuple[Path, str], tmp_path: Path) -> None:
    net = str(Subnet.smallest(SearchSpace.parse(SPACE)))
    asked = [*SMALL, *NOTHING_TRAINED, f"released={written[0]}", f"model={net}", "run_dir=run"]
    spaceevo("pipeline", tmp_path, *asked)
    (card,) = (json.loads(card.read_text()) for card in tmp_path.glob("run/models/*/card.json"))
    assert card["encoding"] == net and card["name"] == "host-2.000ms"


def test_other_images_get_a_new_head(written: tuple[Path, str], tmp_path: Path) -> None:
    photos = two_classes(tmp_path / "photos")
    mine = ["data=folder", f"data.root={photos}", "data.channels=1", "data.image_size=16", "data.validation=8"]
    few = ["search_subnet.validation_images=4", "search_subnet.judge_images=4", "finish.epochs=2"]
    asked = [*SMALL, *mine, *few, f"released={written[0]}", "supernet.epochs=0", "qat.epochs=1", "qat.batch=8", "qat.images=64"]
    said = spaceevo("pipeline", tmp_path, *asked, "run_dir=run")
    assert "with a new head, fitted to the largest subnet's features" in said and "the released one's label" not in said
    supernet = load_checkpoint(tmp_path / "run/supernet.ckpt")
    assert supernet["top1_val"][0] > 80  # of two classes; nothing was trained
    assert list(tmp_path.glob("run/models/*/model.tflite"))


def refused(folder: Path, *arguments: str) -> str:
    done = forked([str(ROOT), "-m", "spaceevo.train", "stage=supernet", *arguments], folder)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_subnet_that_cannot_be_is_told_in_one_line(written: tuple[Path, str], tmp_path: Path) -> None:
    given = [*SMALL, f"run_dir={written[0].parent}", f"out_dir={tmp_path}", "search_subnet.quality=supernet"]
    spaceevo("profile", tmp_path, *given)
    spaceevo("predictor", tmp_path, *given)
    for more, told in (
        (["model=SEQnet@vnni-A0"], f"is of space=onnxw-151122-023231, not of {SPACE}"),
        (["model=SEQnet@vnni-A0", "latency.limits_ms=[1,2]"], "give one limit that it is to keep, e.g. latency.limits_ms=[2]"),
        (["model=SEQnet"], "no such model; there are: SEQnet@pixel4-A0"),
    ):
        done = forked([str(ROOT), "-m", "spaceevo.search_subnet", *given, *more], tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and told in done.stderr, done.stderr


def test_what_does_not_fit_is_told_in_one_line(written: tuple[Path, str], tmp_path: Path) -> None:
    other = [*(key for key in SMALL if not key.startswith("space=")), f"released={written[0]}", "run_dir=run"]
    assert f"released={written[0]}: needs the space that it is of" in refused(tmp_path, *other)
    assert "not a supernet of tiny-2112-0000" in refused(tmp_path, *other, "space=tiny-2112-0000")
    colour = torch.load(written[0], weights_only=True)
    key = "stages.first_conv.blocks.0.conv.conv.weight"
    colour["state_dict"][key] = colour["state_dict"][key].repeat(1, 3, 1, 1)
    torch.save(colour, tmp_path / "colour.pth")
    wrong = [key for key in other if not key.startswith("released=")]
    text = refused(tmp_path, *wrong, f"space={SPACE}", f"released={tmp_path / 'colour.pth'}")
    assert "data.channels=1: must be 3, as" in text
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert "No such file" in refused(tmp_path, *wrong, f"space={SPACE}", "released=nothing.pth")


def test_what_a_whole_run_would_end_with_is_told_before_it_begins(written: tuple[Path, str], tmp_path: Path) -> None:
    other = [key for key in SMALL if not key.startswith("space=")]
    for more, told in (
        ([f"released={written[0]}", "space=tiny-2112-0000"], "not a supernet of tiny-2112-0000"),
        (["model=SEQnet@vnni-A0", f"space={SPACE}"], f"not of {SPACE}"),
        (["model=d1", "latency.limits_ms=[1,2]", f"space={SPACE}"], "give one limit that it is to keep"),
    ):
        done = forked([str(ROOT), "-m", "spaceevo.pipeline", *other, *more, "run_dir=run"], tmp_path)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not list(tmp_path.glob("run/**/*.parquet"))
