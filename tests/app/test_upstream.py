"""The split into training and validation images: told by every record, the same for all of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Command
from PIL import Image

from spaceevo.app.config import Config, compose
from spaceevo.app.run import execute
from spaceevo.data import load_data
from spaceevo.errors import UserError
from spaceevo.steps import STEPS
from spaceevo.steps.step import DATA
from spaceevo.training.checkpoint import load_checkpoint

READERS = (
    "teacher",
    "bkd",
    "lut",
    "supernet",
    "qat",
    "tau",
    "search_subnet",
    "finish",
    "export",
    "baseline",
    "fig8_qt",
    "finetune",
    "release",
)


def test_every_step_that_reads_images_and_every_checkpoint_tells_the_split(tiny_run: Path) -> None:
    split = load_data(compose("pipeline", TINY).data).split
    for name in (name for name, step in STEPS.items() if not step.optional):
        record = json.loads((tiny_run / f"provenance/{name}.json").read_text())
        assert record["split"] == (split if name in READERS else None), name
        assert record["version"] == STEPS[name].version
    assert set(READERS) == {name for name, step in STEPS.items() if set(DATA) <= set(step.keys)}
    for name in ("teacher", "supernet", "qat"):
        assert load_checkpoint(tiny_run / f"{name}.ckpt")["split"] == split


def test_weights_of_another_split_are_refused_in_a_line_and_another_seed_is_not(
    tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    refused = command("search_subnet", *TINY, f"run_dir={folder}", "data.split_seed=1")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "(data.split_seed 0 -> 1); make it again with `python -m spaceevo." in refused.stderr
    done = command("search_subnet", *TINY, f"run_dir={folder}", "seed=1")
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "provenance/search_subnet.json").read_text())
    assert record["seed"] == 1 and record["split"] == load_data(compose("pipeline", TINY).data).split


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes of six small images each."""
    rng = np.random.default_rng(0)
    for folder in (tmp_path / "images" / part / name for part in ("train", "val") for name in "ab"):
        folder.mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "images"


def over(images: Path, *more: str) -> Config:
    """The smallest config over them, in a run folder beside them."""
    data = (f"data.root={images}", "data.image_size=16", "data.classes=2", "data.validation=4", "data.workers=0")
    run = f"run_dir={images.parent / 'run'}"
    return compose("train", ["experiment=tiny", "data=imagenet", *data, "space=tiny-0000-0000", "threads=1", run, *more])


def test_the_same_keys_with_other_images_in_the_folder_are_refused(images: Path, tmp_path: Path) -> None:
    cfg = over(images, "supernet.epochs=0", "qat.epochs=0")
    execute("supernet", cfg)
    more = images / "train" / "a" / "7.png"
    shutil.copy(images / "train" / "a" / "1.png", more)
    with pytest.raises(UserError) as error:
        execute("qat", cfg)
    was = json.loads((tmp_path / "run/provenance/supernet.json").read_text())["split"]
    told = f"run/supernet.ckpt was made with another split into training and validation images ({was[:12]}, here "
    assert told in str(error.value) and "make it again with `python -m spaceevo.train stage=supernet" in str(error.value)
    assert "\n" not in str(error.value)
    more.unlink()
    execute("qat", cfg)


def test_work_begun_on_another_split_does_not_go_on(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spaceevo.steps import common

    cfg = over(images)

    class Killed(Exception):
        pass

    def stop(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(common, "fit", stop)
    with pytest.raises(Killed):
        execute("supernet", cfg)
    (images / "train" / "a" / "0.png").unlink()
    with pytest.raises(UserError, match=r"partial/supernet was made with another split .*; remove that folder to start anew"):
        execute("supernet", cfg)
