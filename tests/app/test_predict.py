"""``python -m spaceevo.predict``: what a model says of image files, as its card tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Command
from PIL import Image

from spaceevo.app.config import compose
from spaceevo.data import load_data
from spaceevo.deploy.claims.ran import in_runtime
from spaceevo.deploy.runtimes.registry import runtime_called, runtimes_in
from spaceevo.latency.host import versions

RUNTIMES = [runtime.name for runtime in runtimes_in(versions())]


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Path:
    return sorted((tiny_run / "models").iterdir())[-1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images of the tiny run's data set as files, in folders of their classes."""
    folder = tmp_path_factory.mktemp("photos")
    images = load_data(compose("pipeline", ["experiment=tiny"]).data, test=True)
    assert isinstance(images.test, torch.Tensor) and images.test_labels is not None
    for i, (pixels, label) in enumerate(zip(images.test, images.test_labels, strict=True)):
        place = folder / str(int(label))
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(place / f"{i:03}.png")
    return folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_folder_of_the_test_images_has_the_card_s_accuracy_to_the_last_image(
    runtime: str, model: Path, photos: Path, command: Command, tmp_path: Path
) -> None:
    card = json.loads((model / "card.json").read_text())
    by = runtime_called(runtime)
    claimed = in_runtime(card, by)[by.int8]["top1"]
    done = command("predict", f"path={model}", f"image={photos}", f"runtime={runtime}")
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert f"top-1 {claimed:.2f} % of the 360 in folders of its classes" in lines[360]
    assert lines[0].startswith("0/") and lines[0].count(" %") == 5 and lines[0].endswith("ms)")
    for name in ("grid.png", "confusion.png"):
        with Image.open(tmp_path / "predictions" / name) as picture:
            assert min(picture.size) > 300


def test_json_is_a_line_an_image_and_standard_input_an_image(model: Path, photos: Path, command: Command) -> None:
    path = sorted(photos.glob("3/*.png"))[0]
    done = command("predict", f"path={model}", f"image={path.parent}", "json=true", "top=2", "out_dir=null")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(list(path.parent.iterdir()))
    assert set(told[0]) == {"image", "top", "ms"} and len(told[0]["top"]) == 2
    line = [sys.executable, "-m", "spaceevo.predict", f"path={model}", "image=-", "json=true", "top=2"]
    env = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PATH": ""}
    piped = subprocess.run(line, input=path.read_bytes(), capture_output=True, env=env, check=True)
    assert json.loads(piped.stdout)["top"] == told[0]["top"]


def test_what_cannot_be_predicted_is_told_in_a_line(model: Path, photos: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty").mkdir()
    for image, says in (
        ("text.jpg", "image=text.jpg: not an image that can be read"),
        ("nowhere.png", "image=nowhere.png: No such file or directory"),
        ("empty", "image=empty: no image in this folder"),
    ):
        done = command("predict", f"path={model}", f"image={image}")
        assert done.returncode == 2 and done.stderr == f"error: {says}\n"
    assert command("predict", "image=text.jpg").stderr.startswith("error: path: has no value")
    assert (
        "runtime=tvm: no such runtime; there are: onnxruntime, litert, openvino"
        in command("predict", f"path={model}", "image=a.png", "runtime=tvm").stderr
    )
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/bad.PNG").write_bytes(b"")
    (tmp_path / "mixed/good.png").write_bytes(sorted(photos.glob("3/*.png"))[0].read_bytes())
    done = command("predict", f"path={model}", "image=mixed", "out_dir=null")
    assert done.returncode == 0 and done.stderr.startswith("predict: passed over: image=mixed/bad.PNG: ")
    assert done.stdout.startswith("good.png: ")


def test_an_imagenet_model_sees_the_centre_that_its_card_s_accuracy_is_of(tmp_path: Path) -> None:
    from spaceevo.data.imagenet import FolderImages
    from spaceevo.deploy.claims.predictor import _square

    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)).save(path)
    with Image.open(path) as image:
        seen = _square({"name": "imagenet", "image_size": 32}, 3)(image)
    np.testing.assert_array_equal(seen, FolderImages((str(path),), 32)[:1][0].numpy())
