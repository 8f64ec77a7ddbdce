"""``make import-demo``: what a released supernet is worth as a start, on images and a machine that anyone has.

A narrow supernet is trained on six of Fashion-MNIST's classes and written in the authors' format. From that file a model of the
other four is made with 500 images, within a latency limit of this device; and the same model from nothing, in as many steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from spaceevo.app.config import compose
from spaceevo.data.config import DataConfig
from spaceevo.data.images import load_data
from spaceevo.data.labels import class_names
from spaceevo.training.checkpoint import load_checkpoint

#: To the supernet. Not half of the ten: a head is kept where there are as many classes.
KNOWN = ("T-shirt", "trouser", "dress", "coat", "sneaker", "bag")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--known", type=int, default=2000, help="training images of each class that the supernet learns")
    asked.add_argument("--new", type=int, default=125, help="training images of each class that it has not seen")
    asked.add_argument("--test", type=int, default=1000, help="test images of each of these")
    asked.add_argument("more", nargs="*", help="overrides of every run")
    given = asked.parse_intermixed_args()
    write_folders(given.folder, given.known, given.new, given.test)
    ours, again, start, nothing = (given.folder / name for name in ("known", "again", "pretrained", "nothing"))
    known, new = (f"data.root={given.folder / 'images' / name}" for name in ("known", "new"))
    for command in ("train stage=supernet", "train stage=qat", "release"):
        spaceevo(command, known, f"run_dir={ours}", *given.more)
    untrained = f"released={ours / 'lsq.pth'}", "supernet.epochs=0", "qat.epochs=0"
    for stage in ("supernet", "qat"):
        spaceevo(f"train stage={stage}", known, f"run_dir={again}", *given.more, *untrained)
    spaceevo("pipeline", new, f"run_dir={start}", *given.more, *untrained)
    (chosen,) = yaml.safe_load((start / "pareto.yaml").read_text())["chosen"]
    same = f"model={chosen['subnet']}", f"latency.limits_ms=[{2 * chosen['limit_ms']}]"  # it is known to be fast enough
    shared = f"device.predictor={start / 'latency/predictor.json'}"
    spaceevo("pipeline", new, f"run_dir={nothing}", *given.more, *untrained[1:], shared, *same)
    tell(again, start, nothing)


def spaceevo(command: str, *arguments: str) -> None:
    """One of the project's commands; where it fails, the demo ends as it does."""
    name, *more = command.split()
    line = [sys.executable, "-m", f"spaceevo.{name}", "experiment=import_demo", *more, *arguments]
    print(f"\n$ python {' '.join(line[1:])}", flush=True)
    if (status := subprocess.run(line).returncode) != 0:
        sys.exit(status)


def write_folders(root: Path, known: int, new: int, test: int) -> None:
    """``images/known`` and ``images/new``: folders of PNG files of every class, for training, validation and test."""
    data: DataConfig = compose("pipeline", ["data=fashion_mnist"]).data
    images = load_data(data, test=True)
    assert images.test is not None and images.test_labels is not None
    given = {
        "train": (images.train, images.train_labels),
        "val": (images.val, images.val_labels),
        "test": (images.test, images.test_labels),
    }
    for label, name in enumerate(class_names(data)):
        seen = name in KNOWN  # whose test images nobody looks at
        counts = {"train": known if seen else new, "val": max(10, new), "test": 1 if seen else test}
        for part, (pixels, labels) in given.items():
            folder = root / "images" / ("known" if seen else "new") / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in np.flatnonzero(labels == label)[: counts[part]].tolist():
                Image.fromarray(pixels[i : i + 1][0, 0].numpy()).save(folder / f"{i}.png")


def tell(again: Path, start: Path, nothing: Path) -> None:
    """What the import costs, and what a start from it is worth."""
    print("\nImported again, on classes that it knows: validation images with the released one's label, and top-1, percent")
    for who, rows in load_checkpoint(again / "qat.ckpt")["import_costs"].items():
        for what, agreed, top1 in rows:
            print(f"  {who}: {what:34} {agreed:6.2f} {top1:6.2f}")
    cards = {}
    for name, run in (("the released supernet", start), ("nothing", nothing)):
        (path,) = run.glob("models/*/card.json")
        cards[name] = json.loads(path.read_text()) | {"folder": path.parent}
    first, second = cards.values()
    print(
        f"\nOne model of {first['mmacs']:.2f} MMACs for the classes that it has not seen, {first['data']['images']} test images"
    )
    print(f"{'started from':22} {'steps':>5} {'INT8 top-1, %':>14} {'ms':>7}  folder")
    for name, card in cards.items():
        told = f"{card['finish']['steps']:5} {card['top1_runtime']:14.2f} {card['measured_ms']:7.4f}"
        print(f"{name:22} {told}  {card['folder']}")
    print(f"a start from the released supernet is worth {first['top1_runtime'] - second['top1_runtime']:+.2f} points")


if __name__ == "__main__":
    main()
