"""``make ablate``: what a model of five classes of Fashion-MNIST is worth as a start for 500 images of the other five.

A network of a finished run learns five classes from all their images; then the other five from 500, from there as ``finetune``
does it, or from nothing, at the rates that are best for that. Top-1 of the INT8 arithmetic on the test images, and seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spaceevo.app.config import Config, compose
from spaceevo.data import Images, ImagesModule, Normalized, input_range, load_data, normalize
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import recalibrated_top1
from spaceevo.steps.common import quantizer, start
from spaceevo.steps.finetune import begun
from spaceevo.steps.source import Source
from spaceevo.training.alone import AloneModule
from spaceevo.training.fit import fit

CLASSES, EACH, SEEDS = ([0, 3, 4, 5, 8], [1, 2, 6, 7, 9]), 100, 3
FIRST = 8  # passes over all images of the classes that are learned first
EPOCHS, LONGER = (10, 20, 40), 4  # passes over the 500 from the model; and times as many from nothing
NOTHING = dict(lr=0.1, muon_lr=0.05)  # rates from nothing: of 0.05 and 0.02, 0.1 and 0.05, 0.2 and 0.1 the best
CPU = dict(accelerator="cpu", devices=1, enable_progress_bar=False)


def of_classes(images: Images, classes: list[int]) -> Images:
    """The images of ``classes`` alone, labelled 0 to 4."""

    def chosen(pixels: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
        which = torch.isin(labels, torch.tensor(classes))
        return pixels[:][which], torch.searchsorted(torch.tensor(classes), labels[which])

    assert images.test is not None and images.test_labels is not None
    parts = ((images.train, images.train_labels), (images.val, images.val_labels), (images.test, images.test_labels))
    return Images(*(part for pair in parts for part in chosen(*pair)))


def few_of(images: Images, seed: int) -> Images:
    """``EACH`` training images of each class."""
    rng = np.random.default_rng(seed)
    labels = images.train_labels
    few = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:EACH] for label in range(5)])
    return replace(images, train=images.train[few], train_labels=labels[few])


def fresh(cfg: Config, source: Source, seed: int) -> Elastic:
    """The source's network, its weights drawn anew."""
    torch.manual_seed(seed)
    net = Elastic(source.graph.with_classes(5), input_range(cfg.data), source.padding)
    return net.to(memory_format=torch.channels_last)


def train(cfg: Config, source: Source, net: Elastic, recipe: Any, images: Images, epochs: int, seed: int) -> Elastic:
    """``net`` after so many passes."""
    data = ImagesModule(images, replace(cfg.data, shift=recipe.shift), recipe.batch, seed)
    steps, calibration = epochs * data.steps_per_epoch, normalize(images.train[:256], cfg.data)
    module = AloneModule(net, source.graph.with_classes(5), recipe, steps, seed, quantizer(cfg), calibration)
    with tempfile.TemporaryDirectory() as folder:
        fit(module, data, CPU, False, Path(folder), epochs)
    return net.eval()


def pair(cfg: Config, source: Source, images: Images, epochs: int, seed: int) -> list[tuple[float, float]]:
    """From the source, and ``LONGER`` times as long from nothing: top-1 of the test images in percent, and the seconds that it
    took to begin and to train."""
    few = few_of(images, seed)
    graph, calibration, test = source.graph.with_classes(5), normalize(few.train, cfg.data), Normalized(few.test, cfg.data)
    found = []
    for begin, recipe, passes in (
        (lambda: begun(cfg, source, few, calibration)[0], cfg.finetune, epochs),
        (lambda: fresh(cfg, source, seed), replace(cfg.finetune, **NOTHING), LONGER * epochs),
    ):
        began = time.perf_counter()
        net = train(cfg, source, begin(), recipe, few, passes, seed)
        seconds = time.perf_counter() - began
        top1 = recalibrated_top1(net, graph, quantizer(cfg), calibration, test, few.test_labels)
        found.append((top1, seconds))
    return found


def main(run_dir: str) -> None:
    cfg = compose("train", ["stage=finetune", "experiment=demo", f"run_dir={run_dir}"])
    start(cfg)
    images = load_data(cfg.data, True)
    cfg.data = replace(cfg.data, classes=5)
    models = sorted(path.parent for path in Path(run_dir).glob("models/*/card.json"))
    model = models[len(models) // 2]
    source = Source.of(model, cfg.data)
    print(f"{model}: the mean of {SEEDS} seeds, and in how many of them the start is better", flush=True)
    for old, new in (CLASSES, CLASSES[::-1]):
        first = train(cfg, source, fresh(cfg, source, 0), cfg.baseline, of_classes(images, old), FIRST, 0)
        source, others = replace(source, state=first.state_dict()), of_classes(images, new)
        for epochs in EPOCHS:
            pairs = [pair(cfg, source, others, epochs, seed) for seed in range(SEEDS)]
            (top1, seconds), (theirs, longer) = np.mean(pairs, axis=0)
            better = sum(one[0] > other[0] for one, other in pairs)
            line = f"classes {new}: from the model, {epochs} passes: {top1:.2f} % in {seconds:.1f} s; from nothing, "
            line += f"{LONGER * epochs}: {theirs:.2f} % in {longer:.1f} s; {top1 - theirs:+.2f} points, "
            print(f"{line}better in {better} of {SEEDS}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
