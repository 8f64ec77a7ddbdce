"""``stage=finetune``: an exported model on other images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Command, kill_when

from spaceevo.app.artifacts import config_subset
from spaceevo.app.config import compose
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import recalibrated, top1
from spaceevo.space.graph import graph_of
from spaceevo.space.standard import standard_graph
from spaceevo.steps import STEPS
from spaceevo.training.head import fit_classifier

OTHER = ("experiment=tiny", "stage=finetune", "threads=1", "data=fashion_mnist", "data.train_limit=400", "data.test_limit=200")
SHORT = ("run_dir=run", "finetune.epochs=4", "export.tolerance=80", "export.mean_difference=3")


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Path:
    return sorted((tiny_run / "models").iterdir())[0]


def test_a_model_learns_other_images_and_leaves_with_files_and_a_card(model: Path, command: Command, tmp_path: Path) -> None:
    done = command("train", *OTHER, *SHORT, f"from={model}")
    assert done.returncode == 0 and not done.stderr, done.stderr
    folder = tmp_path / "run/finetuned" / model.name
    card, theirs = json.loads((folder / "card.json").read_text()), json.loads((model / "card.json").read_text())
    assert card["data"]["name"] == "fashion_mnist" and card["labels"][0] == "T-shirt" and card["data"]["images"] == 200
    assert card["input"]["mean"] == theirs["input"]["mean"] and card["encoding"] == theirs["encoding"]
    assert card["finetune"]["source"] == str(model) and card["finetune"]["steps"] == 4 * (400 // 64)
    assert min(card["top1_runtime"], card["top1_inherited"]) > 40  # of ten classes, after 24 steps; features are of digits
    claims = command("verify", f"path={folder}")
    assert claims.returncode == 0, claims.stderr
    assert command("report", "experiment=tiny", "data=fashion_mnist", "run_dir=run").returncode == 0
    page = (tmp_path / "run/report.html").read_text()
    assert "Trained on for these images" in page and f"<td>{card['top1_inherited']:.2f}" in page
    again = command("train", *OTHER, *SHORT, f"from={model}")
    assert "up to date" in again.stdout


def test_another_model_to_start_from_is_another_config() -> None:
    first, second = (compose("train", ["experiment=tiny", "stage=finetune", f"from_={name}"]) for name in ("a", "b"))
    assert config_subset(STEPS["finetune"], first) != config_subset(STEPS["finetune"], second)


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_the_same(model: Path, command: Command, tmp_path: Path) -> None:
    line = ["python", "-m", "spaceevo.train", *OTHER, *SHORT, f"from={model}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    kill_when(killed / f"run/partial/finetune/{model.name}/last.ckpt", line, killed)
    for folder in (whole, killed):
        assert command("train", *OTHER, *SHORT, f"from={model}", f"run_dir={folder / 'run'}").returncode == 0
    first, second = (folder / "run/finetuned" / model.name / "model.safetensors" for folder in (whole, killed))
    assert first.read_bytes() == second.read_bytes()


def test_a_classifier_fitted_to_features_sorts_what_they_tell_apart() -> None:
    torch.manual_seed(0)
    graph = standard_graph("plain4", 0.5, 1, 10, 16).with_classes(3)
    assert graph_of(json.loads(json.dumps(graph.as_data()))) == graph
    net = Elastic(graph)
    labels = torch.arange(90) % 3
    images = torch.rand(90, 1, 16, 16) * 0.2
    for label in range(3):
        images[labels == label, :, 5 * label : 5 * label + 5] += 0.8
    fit_classifier(net, graph, images[:60], labels[:60], images[:60], 1e-3)
    assert top1(recalibrated(net, graph, None, images[:60], images[60:]), labels[60:]) > 90


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "from=null: must be the folder of an exported model, such as runs/photos/models/host-4ms, or a file of weights"),
        (("from=nowhere",), "nowhere"),
        (("from=MODEL", "data=cifar10"), "data.channels=3: must be 1, which from="),
        (("from=COPY",), "none of the weights it was exported from is there"),
        (
            ("from=MODEL", "finetune.seconds=3"),
            "finetune.seconds=3.0 finetune.epochs=40.0: both are given, must be one of them",
        ),
    ],
)
def test_what_cannot_be_a_start_is_refused_in_a_line(
    arguments: tuple[str, ...], says: str, model: Path, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "copied/models/copy")
    places = {"from=MODEL": f"from={model}", "from=COPY": f"from={tmp_path / 'copied/models/copy'}"}
    done = command("train", *OTHER, "run_dir=run", *(places.get(argument, argument) for argument in arguments))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not list(tmp_path.glob("run/finetuned/*/card.json"))
