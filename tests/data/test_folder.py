"""One's own images: what is found, how it is divided, what is filled in, and what is refused or said of it."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_images import two_classes, write_bomb, write_images
from PIL import Image

from spaceevo.app.config import compose
from spaceevo.data import Images, load_data, scan
from spaceevo.data.config import DataConfig
from spaceevo.data.folder import _said, settled
from spaceevo.data.labels import class_names
from spaceevo.data.listing import list_files
from spaceevo.data.oddities import oddities
from spaceevo.data.own import Own, own_images, parts_of
from spaceevo.data.scan import spread
from spaceevo.data.split import Members, split
from spaceevo.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _said.clear()
    return tmp_path / "cache" / "spaceevo"


def config(root: Path, **more: object) -> DataConfig:
    """As ``conf/data/folder.yaml`` has it."""
    values = dict(
        name="folder", root=str(root), channels=0, classes=0, names=[], image_size=0, mean=[], std=[], flip=False, shift=0,
        validation=0, split_seed=0, train_limit=None, test_limit=None, workers=0, download=False, background=255,
        skip_broken=False, files="",
    )  # fmt: skip
    return DataConfig(**(values | more))  # type: ignore[arg-type]


def sizes(images: Images) -> tuple[int, int, int]:
    assert images.test is not None
    return len(images.train), len(images.val), len(images.test)


def odd(root: Path, **more: object) -> list[str]:
    cfg = config(root, **more)
    own = own_images(cfg)
    return list(oddities(own, parts_of(own, cfg)))


def test_files_are_found_at_any_depth_whatever_they_are_called(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "Meine Fotos äöü", 6)
    deep = root / "cat" / "2024" / "猫 und Bär"
    deep.mkdir(parents=True)
    shutil.copy(root / "cat/0.png", deep / "ÄÖÜ 1.PNG")
    os.symlink(root / "cat" / "2024", root / "dog" / "linked")
    os.symlink(root / "dog", root / "dog" / "loop")
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/notes.txt", "dog/README", "cat/a.HEIC"):
        (root / name).write_text("x")
    (root / "cat" / ".hidden").mkdir()
    (root / "__MACOSX").mkdir()
    shutil.copy(root / "cat/0.png", root / "stray.png")
    listing = list_files(str(root))
    assert listing.names == ["cat", "dog"] and len(listing.files) == 6 + 1 + 6 + 1
    assert {listing.short(file.path) for file in listing.files} >= {"cat/2024/猫 und Bär/ÄÖÜ 1.PNG"}
    assert dict(listing.skipped) == {
        "hidden": 3, ".db": 1, ".txt": 1, "without an end": 1, ".heic": 1, "image beside the class folders": 1,
    }  # fmt: skip


def test_a_split_has_of_each_class_its_share_and_the_same_every_time(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", {"a": 100, "b": 40, "c": 5, "d": 2})
    own = own_images(config(root))
    parts = parts_of(own, config(root))
    counts = {part: np.bincount(own.members.labels[indices], minlength=4).tolist() for part, indices in parts.items()}
    assert counts == {"train": [70, 28, 3, 1], "val": [15, 6, 1, 0], "test": [15, 6, 1, 1]}
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything.tolist()) == list(range(147))
    again, other = parts_of(own, config(root)), parts_of(own, config(root, split_seed=1))
    assert all((again[part] == parts[part]).all() for part in parts)
    assert (other["test"] == parts["test"]).all() and set(other["val"]) != set(parts["val"])  # the test is the set's own
    assert len(parts_of(own, config(root, validation=60))["val"]) == 60
    with pytest.raises(UserError, match=r"data\.validation=500: must be 0 or from 1 to 120, of the 124 images"):
        parts_of(own, config(root, validation=500))
    filled = settled(config(root))
    assert filled.validation == 22 and all((parts_of(own, filled)[part] == parts[part]).all() for part in parts)


def test_what_files_are_called_does_not_matter_and_what_they_hold_does(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos")
    cfg = settled(config(root))
    images = load_data(cfg, test=True)
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    for i, path in enumerate(sorted((moved / "cat").iterdir())):
        path.rename(path.with_name(f"{99 - i}.PNG"))
    same = load_data(settled(config(moved)), test=True)
    assert same.split == images.split and settled(config(moved)).files == cfg.files
    assert same.test is not None and images.test is not None and torch.equal(same.test, images.test)
    assert torch.equal(same.train, images.train) and torch.equal(same.val_labels, images.val_labels)
    Image.new("RGB", (24, 24), "red").save(moved / "cat" / "99.PNG")
    assert load_data(settled(config(moved))).split != images.split


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 40)
    for i in range(20):
        shutil.copy(root / f"cat/{i}.png", root / f"cat/copy{i}.png")
    own = own_images(config(root))
    contents = [{own.seen[i].sha256 for i in part} for part in parts_of(own, config(root)).values()]
    assert not contents[0] & contents[1] and not contents[0] & contents[2] and not contents[1] & contents[2]
    assert odd(root) == ["files that are copies of another: 20 (cat/0.png = cat/copy0.png, cat/1.png = cat/copy1.png, "
                         "cat/10.png = cat/copy10.png and 17 more)"]  # fmt: skip


def test_given_parts_are_taken_as_they_are_and_the_others_from_train(tmp_path: Path) -> None:
    for part, count in (("train", 40), ("val", 6), ("test", 8)):
        write_images(tmp_path / "photos" / part, {"cat": count, "dog": count}, seed=count)
    root = tmp_path / "photos"
    cfg = settled(config(root))
    images = load_data(cfg, test=True)
    assert cfg.validation == 12 and sizes(images) == (80, 12, 16)
    with pytest.raises(UserError, match=r"data\.validation=5: must be 0 or 12, the images that val has"):
        settled(config(root, validation=5))
    shutil.rmtree(root / "val")
    images = load_data(settled(config(root)), test=True)
    assert sizes(images) == (68, 12, 16)
    shutil.rmtree(root / "test")
    images = load_data(settled(config(root)), test=True)
    assert sizes(images) == (56, 12, 12)
    (root / "cats").mkdir()
    with pytest.raises(UserError, match=r"cats lies beside train; there are either class folders, or train, val and test"):
        settled(config(root))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert list_files(str(write_images(tmp_path / "rail", {"bus": 5, "train": 5}))).names == ["bus", "train"]


@pytest.mark.parametrize("end", ["csv", "parquet", "CSV"])
def test_a_table_of_paths_and_labels(end: str, tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 8)
    rows = [dict(path=f"photos/{name}/{i}.png", label=f"{name}, gross", id=i) for name in ("dog", "cat") for i in range(8)]
    table = tmp_path / f"labels.{end}"
    write = dict(parquet=lambda: pd.DataFrame(rows).to_parquet(table)).get(
        end, lambda: pd.DataFrame(rows).to_csv(table, index=False)
    )
    write()
    cfg = settled(config(table))
    assert cfg.names == ["cat, gross", "dog, gross"] and cfg.classes == 2 and class_names(cfg) == cfg.names
    assert load_data(cfg).split and len(load_data(cfg).train) == 14 - 2 * 1
    shutil.rmtree(root / "dog")
    with pytest.raises(UserError) as error:
        settled(config(table))
    assert str(error.value).startswith(
        f"data.root={table}: 8 of 16 files cannot be read: photos/dog/0.png (there is no such file), photos/dog/1.png"
    )
    assert "photos/dog/4.png (there is no such file) and 3 more; mend or remove them" in str(error.value)


def test_labels_that_are_numbers_stay_what_they_are(tmp_path: Path) -> None:
    two_classes(tmp_path / "photos", 10)
    rows = [
        dict(path=f"photos/{name}/{i}.png", label=label) for name, label in (("cat", 2.0), ("dog", 10.0)) for i in range(10)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    assert list_files(str(tmp_path / "a.parquet")).names == ["2", "10"]
    rows[3]["label"] = float("nan")
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="row 5 has no label"):
        list_files(str(tmp_path / "a.parquet"))


def test_a_table_with_a_split(tmp_path: Path) -> None:
    two_classes(tmp_path / "photos", 10)
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    rows = [(f"photos/{name}/{i}.png", name, parts[i]) for name in ("cat", "dog") for i in range(10)]
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    images = load_data(settled(config(tmp_path / "a.csv")), test=True)
    assert sizes(images) == (12, 4, 4)


def test_what_is_left_to_the_images_is_filled_in_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_images(tmp_path / "photos", {"cat": 20, "dog": 20}, side=45)
    (root / "cat" / "x.txt").write_text("x")
    cfg = settled(config(root))
    said = capsys.readouterr().out
    assert said == (
        "data: 40 images of 2 classes (cat, dog), 3 channels, brought to 40x40; 28 train, 6 validation, 6 test; "
        "1 skipped (1 .txt)\n"
    )
    assert (cfg.channels, cfg.classes, cfg.image_size, cfg.validation, cfg.names) == (3, 2, 40, 6, ["cat", "dog"])
    train = load_data(cfg).train[:].float()
    assert len(set(cfg.mean)) == len(set(cfg.std)) == 1 and (cfg.mean[0] * 255) == pytest.approx(round(cfg.mean[0] * 255))
    assert abs(cfg.mean[0] * 255 - float(train.mean())) <= 0.51 and cfg.std[0] == round(float(train.std()) / 255, 3)
    assert settled(cfg) == cfg and capsys.readouterr().out == ""
    own = settled(config(root, image_size=20, mean=[0.5], std=[0.25], channels=1))
    assert (own.image_size, own.mean, own.std, own.channels) == (20, [0.5], [0.25], 1)
    assert load_data(own).train.shape == (28, 1, 20, 20)


def test_grey_images_stay_one_channel(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", {"cat": 8, "dog": 8}, grey=True)
    with Image.open(root / "cat/0.png") as image:
        image.convert("RGB").save(root / "cat/rgb.png")
        image.convert("P").save(root / "cat/palette.gif")
    assert settled(config(root)).channels == 1
    Image.new("RGB", (24, 24), (10, 10, 11)).save(root / "cat/colour.png")
    assert settled(config(root)).channels == 3


def empty_class(root: Path) -> None:
    (root / "bird").mkdir()


def one_class(root: Path) -> None:
    shutil.rmtree(root / "dog")


def broken(root: Path) -> None:
    (root / "cat/0.png").write_bytes(b"")
    (root / "cat/1.png").write_bytes((root / "cat/1.png").read_bytes()[:200])
    (root / "dog/2.jpg").write_text("no image")
    write_bomb(root / "dog/3.png")


def no_images(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))


def flat_folder(root: Path) -> None:
    for path in list(root.rglob("*.png")):
        path.rename(root / f"{path.parent.name}-{path.name}")
    for folder in ("cat", "dog"):
        (root / folder).rmdir()


def newline(root: Path) -> None:
    (root / "dog").rename(root / "d\nog")


def only_in_val(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / "train").mkdir(exist_ok=True)
        (root / name).rename(root / "train" / name)
    write_images(root / "val", {"cat": 2, "bird": 2})


REFUSED: dict[Callable[[Path], None], str] = {
    empty_class: "no image to train on of bird; add some, or remove the class",
    one_class: "one class alone (cat); a classifier needs two or more",
    broken: "4 of 21 files cannot be read: cat/0.png (0 bytes), cat/1.png (",
    no_images: "no images in it (but 20 .txt); they end in .jpg, ",
    flat_folder: "no class folders in it: put the images of each class into a folder of its own",
    newline: r"a class is called 'd\nog'; a name is text in one line",
    only_in_val: "no image to train on of bird",
    shutil.rmtree: "must be a folder, or a .csv or .parquet file; there is nothing of that name",
}


@pytest.mark.parametrize("harm", REFUSED, ids=lambda harm: harm.__name__)
def test_what_cannot_be_learned_from_is_refused_in_a_line(harm: Callable[[Path], None], tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 10)
    harm(root)
    with pytest.raises(UserError) as error:
        settled(config(root))
    assert str(error.value).startswith(f"data.root={root}: ") and REFUSED[harm] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,label\na.png,cat\n", "has no column path, but name, label"),
        ("path,label\na.png,\n", "row 2 has no label"),
        ("path,label,split\na.png,cat,train\nb.png,dog,dev\n", "row 3 has split=dev; it is train, val or test"),
        ("path,label,split\na.png,cat,val\nb.png,dog,test\n", "its column split has no train"),
        ("path,label\n", "no images in it"),
        ("", "has no column path, but none"),
        ("path,label\n\xff\n", "not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_is_none_is_refused_in_a_line(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"^data\.root=\S+a\.csv: ") as error:
        settled(config(tmp_path / "a.csv"))
    assert said in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "b.parquet").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="not a Parquet file"):
        settled(config(tmp_path / "b.parquet"))


def test_broken_files_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_classes(tmp_path / "photos", 10)
    broken(root)
    cfg = settled(config(root, skip_broken=True))
    assert "17 images of 2 classes" in (said := capsys.readouterr().out) and "4 skipped (4 broken)" in said
    assert len(load_data(cfg).train) == 13


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("classes", 3, "0 or 2, the classes of "),
        ("channels", 4, "1, 3, or 0 for what the images are"),
        ("mean", [0.5, 0.5], "3 numbers, one a channel, or [] for what the images have"),
        ("names", ["cat", "bird"], "those of "),
    ],
)
def test_a_config_that_does_not_describe_them_is_refused_at_once(key: str, value: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^data\.{key}=") as error:
        settled(config(two_classes(tmp_path / "photos", 10), **{key: value}))
    assert said in str(error.value)


def test_what_is_odd_is_said_in_a_line_each(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", {"0": 126, "1": 3, "4": 30})
    Image.new("RGB", (1, 1), "red").save(root / "4/small.png")
    shutil.copy(root / "0/0.png", root / "1/0-too.png")
    (root / "0/a.heic").write_text("x")
    assert odd(root) == [
        "classes with fewer than 5 images: 1 (4)",
        "imbalance: 126 images of 0, 4 of 1: who always says 0 is right for 78 %; data.balanced=true learns all classes alike",
        "the same image in two classes, 1 times: 0/0.png = 1/0-too.png",
        "labels are numbers without 2, 3: the model's outputs are numbered from 0 to 2, and named 0, 1, 4",
        "images with a side of fewer than 8 pixels: 4/small.png (1x1)",
        "images that are skipped since they cannot be read here: 1 .heic; save them as JPEG or PNG",
    ]
    for part, names in (("train", {"a": 9, "b": 9}), ("val", {"a": 9}), ("test", {"a": 9, "b": 9})):
        write_images(tmp_path / "parts" / part, names, seed=len(part))
    shutil.copy(tmp_path / "parts/train/a/0.png", tmp_path / "parts/test/a/x.png")
    assert odd(tmp_path / "parts")[0] == "no validation image of b"
    assert "the same image in two of train, val and test, " in odd(tmp_path / "parts")[1]


def test_a_second_look_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    root = two_classes(tmp_path / "photos", 10)
    cfg = settled(config(root))
    first = load_data(cfg).train[:]
    looked: list[str] = []

    def look(path: str) -> scan.Seen:
        looked.append(path)
        return whole(path)

    whole = scan.look
    monkeypatch.setattr(scan, "look", look)
    (pixels,) = cache.glob("decoded/*.npy")
    was = pixels.stat().st_mtime_ns
    assert torch.equal(load_data(settled(config(root))).train, first)
    assert looked == [] and pixels.stat().st_mtime_ns == was
    (root / "cat/3.png").touch()
    load_data(settled(config(root)))
    assert looked == [str(root / "cat/3.png")] and pixels.stat().st_mtime_ns == was  # the same content, no other pixels
    with open(pixels, "r+b") as file:
        file.seek(5000)
        file.write(b"\0" * 100)
    assert torch.equal(load_data(cfg).train, first)  # a damaged file is made anew
    (place,) = cache.glob("scans/*.json")
    for damaged in ("", "{", '{"version": 1, "files": {"a": 1}}', '{"version": 0}'):
        place.write_text(damaged)
        assert settled(config(root)) == cfg
    Image.new("RGB", (24, 24), "red").save(root / "cat/3.png")
    assert settled(config(root)).files != cfg.files and len(list(cache.glob("decoded/*.npy"))) == 1  # no heap of old ones


def test_images_that_change_under_a_run_are_refused(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 10)
    cfg = settled(config(root))
    (root / "cat/9.png").unlink()
    with pytest.raises(UserError) as error:
        load_data(cfg)
    assert "its images have changed since this began (19 files " in str(error.value) and "\n" not in str(error.value)


def test_many_files_are_read_in_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = two_classes(tmp_path / "photos", 10)
    monkeypatch.setattr(scan, "FEW", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    paths = [file.path for file in list_files(str(root)).files]
    assert list(spread(scan.look, paths, "scan")) == [scan.look(path) for path in paths]


def test_transparency_is_composed_on_the_background_of_the_config(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 10)
    for i in range(10):
        Image.new("RGBA", (24, 24), (i, 0, 0, 0)).save(root / f"cat/{i}.png")
    images = load_data(settled(config(root, background=90, image_size=16)))
    assert (images.train[images.train_labels == 0] == 90).all()


def test_values_left_to_the_images_are_refused_for_other_sets() -> None:
    for key in ("classes", "image_size", "channels"):
        with pytest.raises(UserError, match=rf"data\.{key}=0: must be more than 0"):
            compose("train", ["experiment=tiny", f"data.{key}=0"])


def test_own_knows_all_broken_files(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "photos", 10)
    broken(root)
    found = {Path(path).name: why for path, why in Own.at(str(root)).broken.items()}
    assert set(found) == {"0.png", "1.png", "2.jpg", "3.png"} and found["0.png"] == "0 bytes"
    assert found["2.jpg"] == "not an image that can be read" and "more than 178,956,970 pixels" in found["3.png"]


def test_validation_images_are_a_share_of_those_that_were_not_put_aside_for_the_test() -> None:
    labels, parts = np.repeat([0, 1], 700), np.array((["train"] * 100 + ["test"] * 600) * 2)
    members = Members(labels, np.array([f"{i:04}" for i in range(1400)]), parts, ("train", "test"))
    assert {part: len(indices) for part, indices in split(members, 0, 0).items()} == {"train": 170, "val": 30, "test": 1200}
