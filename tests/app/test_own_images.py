"""One's own images on the command line: what is said before training, that steps run, and that other images are noticed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Command
from own_images import two_classes, write_images

from spaceevo.app.artifacts import config_subset
from spaceevo.app.claim import identity
from spaceevo.app.config import compose
from spaceevo.app.run import execute
from spaceevo.deploy.claims.card import data_claims
from spaceevo.errors import UserError
from spaceevo.steps import STEPS
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.verify import claimed_data


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return two_classes(tmp_path / "Meine Fotos äöü", 20, 16)


def tiny(photos: Path, *more: str) -> tuple[str, ...]:
    """The smallest config over them."""
    few = ("search_subnet.validation_images=0", "search_subnet.judge_images=0", "teacher.epochs=1", "threads=1")
    return "experiment=tiny", "data=folder", f"data.root={photos}", *few, *more


def test_the_images_are_looked_at_before_anything_is_trained(command: Command, photos: Path) -> None:
    (photos / "dog" / "notes.txt").write_text("x")
    done = command("data", "check", f"data.root={photos}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{photos}: 40 files of images" and "skipped  1 .txt" in lines and "modes    40 RGB" in lines
    rows = [line.split() for line in lines if line.startswith(("class", "cat", "dog"))]
    assert rows == [["class", "train", "val", "test"], ["cat", "14", "3", "3"], ["dog", "14", "3", "3"]]
    assert {"data.channels=3", "data.classes=2", "data.image_size=16", "data.validation=6"} <= set(lines)
    (photos / "cat" / "0.png").write_bytes(b"")
    done = command("data", "check", f"data.root={photos}")
    assert done.returncode == 2 and "  cat/0.png: 0 bytes" in done.stdout.splitlines()
    assert done.stderr.startswith(f"error: data.root={photos}: 1 of 40 files cannot be read: cat/0.png (0 bytes); mend")
    assert done.stderr.count("\n") == 1
    assert command("data", "check", f"data.root={photos}", "data.skip_broken=true").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "do: has no value; there is `python -m spaceevo.data check data.root=<folder of images>`"),
        (("check",), "data.root: has no value; give the folder of your images, e.g. data.root=photos"),
        (("look",), "do=look: no such do; there are: check"),
        (("check", "data=digits"), "data.name=digits: must be folder"),
        (("check", "data.root=none"), "data.root=none: must be a folder, or a .csv or .parquet file; there is nothing of"),
    ],
)
def test_bad_arguments_get_a_line(command: Command, arguments: tuple[str, ...], said: str) -> None:
    done = command("data", *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1


def test_a_teacher_is_trained_on_them(command: Command, photos: Path, tmp_path: Path) -> None:
    done = command("train", "stage=teacher", *tiny(photos, "run_dir=run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "data: 40 images of 2 classes (cat, dog), 3 channels, brought to 16x16; 28 train, 6 validation, 6 test"
    )
    record = json.loads((tmp_path / "run/provenance/teacher.json").read_text())
    kept = {key: record["config"][f"data.{key}"] for key in ("names", "classes", "channels", "image_size", "validation")}
    assert kept == dict(names=["cat", "dog"], classes=2, channels=3, image_size=16, validation=6)
    assert record["config"]["data.files"].startswith("40 files ") and "data.background" not in record["config"]
    refused = command("train", "stage=teacher", *tiny(photos, "run_dir=run", "data.classes=5"))
    assert refused.returncode == 2 and "error: data.classes=5: must be 0 or 2, the classes of " in refused.stderr


def test_other_images_are_noticed_by_the_next_step_and_the_next_command(photos: Path, tmp_path: Path) -> None:
    cfg = compose(
        "train", [*tiny(Path(f'"{photos}"')), f"run_dir={tmp_path / 'run'}", "space=tiny-0000-0000", "supernet.epochs=1"]
    )
    execute("supernet", cfg)
    shutil.copy(photos / "cat/1.png", photos / "cat/more.png")
    kept = (tmp_path / "run/supernet.ckpt").read_bytes()
    with pytest.raises(UserError, match=r"its images have changed since this began \(41 files \w+, then 40 files \w+\)"):
        execute("qat", cfg)
    again = compose(
        "train", [*tiny(Path(f'"{photos}"')), f"run_dir={tmp_path / 'run'}", "space=tiny-0000-0000", "supernet.epochs=1"]
    )
    with pytest.raises(UserError, match=r"is another configuration's \(data\.files 40 files \w+ -> 41 files \w+\); give"):
        execute("qat", again)
    assert (tmp_path / "run/supernet.ckpt").read_bytes() == kept
    (photos / "cat/more.png").unlink()
    execute("qat", cfg)


def test_what_follows_from_the_images_is_filled_in(tmp_path: Path) -> None:
    root = write_images(tmp_path / "large", {"a": 60, "b": 60, "c": 60}, side=52)
    cfg = compose("pipeline", ["experiment=folder", f"data.root={root}"])
    hs = hyperspace(cfg)
    assert hs.resolutions == (36, 40, 48) and hs.lut_resolutions == (36, 48) and (hs.channels, hs.classes) == (3, 3)
    assert (cfg.search_subnet.judge_images, cfg.search_subnet.validation_images, cfg.data.validation) == (13, 14, 27)
    with pytest.raises(UserError, match=r"hyperspace\.resolutions=\[64\]: must be at most data\.image_size=48"):
        compose("pipeline", ["experiment=folder", f"data.root={root}", "hyperspace.resolutions=[64]"])


def test_a_card_brings_the_same_test_images_back(photos: Path, command: Command, tmp_path: Path) -> None:
    done = command(
        "quantize", "model=squeezenet1_1", "data=folder", f"data.root={photos}", "data.image_size=32", "data.split_seed=3",
        "rounds=1", "runs=1", "spread_s=0", "out_dir=model",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "model/card.json").read_text())
    assert card["data"]["names"] == ["cat", "dog"] and card["data"]["background"] == 255 and card["data"]["images"] == 6
    held: subprocess.CompletedProcess[str] = command("verify", "path=model", f"data.root={photos}", "progress_bar=false")
    assert held.returncode == 0, held.stderr
    (photos / "dog").rename(photos / "wolf")
    other = command("verify", "path=model", f"data.root={photos}")
    assert other.returncode == 2 and other.stderr.startswith("error: data.names=cat, dog: must be those of ")


def test_cards_and_records_of_other_sets_are_as_they_were() -> None:
    cfg = compose("pipeline", ["experiment=tiny"])
    recorded = config_subset(STEPS["teacher"], cfg)
    assert "data.classes" in recorded and not {"data.names", "data.background", "data.files"} & set(recorded)
    assert "data.files" not in identity(cfg)
    assert set(data_claims(cfg.data, 5)) == {
        "name", "channels", "classes", "image_size", "mean", "std", "test_limit", "images",
    }  # fmt: skip
    assert claimed_data(type(cfg.data)(), data_claims(cfg.data, 5), "card.json") == cfg.data
