"""The paper's experiments end to end on a folder of a few small images, at the real widths and depths: one step a stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import efficientnet_b5

from spaceevo.app.config import compose
from spaceevo.space import SearchSpace, load_hyperspace
from spaceevo.training.checkpoint import load_checkpoint, load_supernet

#: Block types whose students are small: those of all types hold 500 million weights, and as much four times with Adam.
BLOCKS = {
    "paper_vnni": [
        "{type: mbv1_dual, kernels: [3, 5], act: relu}",
        "{type: mbv2, kernels: [3, 5], expands: [4, 6, 8], act: relu6}",
    ],
    "paper_pixel4": [
        "{type: mbv2, kernels: [3, 5, 7], expands: [3, 6, 8], act: relu6}",
        "{type: mbv2_k3, kernels: [3, 5, 7], expands: [3, 6, 8], act: relu6}",
    ],
}
SPACES = {"paper_vnni": "spaceevo@vnni", "paper_pixel4": "spaceevo@pixel4"}
ONE_STEP = (
    *(
        "data.classes=2",
        "data.validation=4",
        "data.workers=0",
        "threads=1",
        "trainer.progress_bar=false",
    ),
    *("bkd.epochs=1", "bkd.images=1", "bkd.batch=1", "bkd.random_paths=0", "hyperspace.lut_resolutions=[160]"),
    *(f"{stage}.{key}" for stage in ("supernet", "qat") for key in ("epochs=1", "images=2", "batch=2", "random_paths=1")),
    *("hyperspace.resolutions=[160,224]",),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` and ``val`` with two classes of a few JPEGs each."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((320, 240)).save(folder / f"{i}.jpg")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state_dict of EfficientNet-B5 whose BatchNorms know the statistics of its random features of noise: of images its
    features are of any scale."""
    net, path = efficientnet_b5(num_classes=2, stochastic_depth_prob=0.0), tmp_path_factory.mktemp("weights") / "b5.pth"
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(8, 3, 96, 96))
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SPACES)
def test_distillation_reads_the_folder_and_trains_every_stage_at_its_real_size(
    command: Command, tmp_path: Path, images: Path, weights: Path, experiment: str
) -> None:
    blocks = f"blocks.blocks=[{','.join(BLOCKS[experiment])}]"
    arguments = (
        "stage=bkd",
        f"experiment={experiment}",
        f"data.root={images}",
        f"teacher.weights={weights}",
        *ONE_STEP,
        blocks,
    )
    done = command("train", *arguments)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / experiment
    teacher = load_checkpoint(run / "teacher.ckpt")
    assert [len(v) for v in teacher["variance"]] == [24, 40, 64, 128, 176, 304, 512]  # EfficientNet-B5's boundaries
    hs = load_hyperspace({"paper_vnni": "onnxw", "paper_pixel4": "mobilew"}[experiment])
    for number, stage in enumerate(hs.stages, start=1):
        for kind in ("mbv1_dual", "mbv2") if experiment == "paper_vnni" else ("mbv2", "mbv2_k3"):
            tensors = load_file(run / "bkd" / f"stage{number}_{kind}.lsq.safetensors")
            assert tensors["leave"].shape[:2] == (len(teacher["variance"][number]), stage.widths[-1])
            depth = {name.split(".")[3] for name in tensors if name.startswith("body.body.")}
            assert len(depth) == stage.depths[-1]
            assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SPACES)
def test_the_published_spaces_train_as_supernets_in_fp32_and_quantized(
    command: Command, tmp_path: Path, images: Path, experiment: str
) -> None:
    space = SearchSpace.parse(SPACES[experiment])
    for stage in ("supernet", "qat"):
        arguments = (f"stage={stage}", f"experiment={experiment}", f"space={space}", f"data.root={images}", *ONE_STEP)
        done = command("train", *arguments)
        assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / experiment
    hs = replace(load_hyperspace(space.hyperspace.name).with_task(3, 2), resolutions=(160, 224), lut_resolutions=(160,))
    net, found = load_supernet(run / "qat.ckpt", hs)
    assert str(found) == str(space) and sum(p.numel() for p in net.parameters()) > 40e6
    before, _ = load_supernet(run / "supernet.ckpt", hs)
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))
    config = json.loads((run / "provenance" / "qat.json").read_text())["config"]
    assert (config["qat.dropout"], config["qat.label_smoothing"], config["qat.weight_decay"]) == (0.2, 0.1, 1e-5)


@pytest.mark.parametrize(
    ("experiment", "limits"), [("paper_vnni", [8, 10, 15, 20, 25]), ("paper_pixel4", [15, 20, 25, 30, 35])]
)
def test_the_recipe_is_the_paper_s(experiment: str, limits: list[float]) -> None:
    cfg = compose("pipeline", [f"experiment={experiment}"])
    assert cfg.latency.limits_ms == limits
    assert (cfg.supernet.epochs, cfg.qat.epochs, cfg.bkd.epochs, cfg.bkd.lsq_epochs) == (360, 50, 5, 1)
    for stage in (cfg.supernet, cfg.qat):
        recipe = (stage.momentum, stage.weight_decay, stage.dropout, stage.label_smoothing, stage.largest_first)
        assert recipe == (0.9, 1e-5, 0.2, 0.1, 0)
        assert stage.random_paths == cfg.bkd.random_paths == 2  # four paths with the largest and the smallest
    search = cfg.search_space
    assert (search.draws, search.top, search.population, search.sample, search.evaluations) == (5000, 20, 500, 125, 5000)
    subnets = cfg.search_subnet
    assert (subnets.population, subnets.population * (subnets.generations + 1)) == (100, 5000)
    assert subnets == compose("pipeline", [f"experiment={experiment}", "subnet_search=paper"]).search_subnet
    for stage, steps in ((cfg.supernet, 6250), (cfg.qat, 1250)):  # of ImageNet's 1,281,167 images
        assert round(stage.warmup * stage.epochs * ((1_281_167 - cfg.data.validation) // stage.batch)) == steps
    assert cfg.teacher.name == "efficientnet_b5" and cfg.data.name == "imagenet" and cfg.device.predictor == "shipped"


@pytest.mark.parametrize(
    ("name", "limits"), [("paper_pixel4_medium", [10, 15, 20, 25, 30]), ("paper_pixel4_tiny", [6, 10, 15, 20, 25])]
)
def test_the_paper_s_tighter_limits_are_there(name: str, limits: list[float]) -> None:
    assert compose("pipeline", ["experiment=paper_pixel4", f"latency={name}"]).latency.limits_ms == limits


def test_missing_imagenet_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "img" / "train").mkdir(parents=True)
    for root in ("nowhere", "img"):
        done = command("train", "experiment=paper_vnni", "stage=bkd", f"data.root={root}")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: data.root={root}: train must hold a folder of images for every class")
        assert len(done.stderr.splitlines()) == 1


def test_images_fetched_by_nobody_are_asked_for(command: Command, images: Path) -> None:
    done = command("train", "experiment=paper_vnni", "stage=bkd", f"data.root={images}", "data.classes=2", "data.validation=4")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: teacher.weights=IMAGENET1K_V1: classifies ImageNet's 1000 classes")
