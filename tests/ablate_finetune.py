"""``make ablate``: what a model of five classes of Fashion-MNIST is worth as a start for 500 images of the other five.

A network of a finished run learns five classes from all their images; then the other five from 500, from there as ``finetune``
does it, or from nothing, at the rates that are best for that. Top-1 of the INT8 arithmetic on the test images, and seconds.
"""

from __future__ import annotations

import copy
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
from spaceevo.steps.source import Source
from spaceevo.training.alone import AloneModule
from spaceevo.training.fit import fit
from spaceevo.training.head import fit_classifier

CLASSES, EACH, SEEDS = ([0, 3, 4, 5, 8], [1, 2, 6, 7, 9]), 100, 3
EPOCHS, LONGER = (10, 20, 40), 4  # passes over the 500 from the model; and times as many from nothing
NOTHING = dict(lr=0.1, muon_lr=0.05)  # rates from nothing: of 0.05 and 0.02, 0.1 and 0.05, 0.2 and 0.1 the best
CPU = dict(accelerator="cpu", devices=1, enable_progress_bar=False)


def of_classes(pixels: Any, labels: Tensor, classes: list[int]) -> tuple[Tensor, Tensor]:
    """The images of ``classes`` alone, and which of these each is of."""
    which = torch.isin(labels, torch.tensor(classes))
    return pixels[:][which], torch.searchsorted(torch.tensor(classes), labels[which])


def trained(cfg: Config, source: Source, net: Elastic, recipe: Any, x: Tensor, y: Tensor, epochs: int, seed: int) -> Elastic:
    """``net`` after so many passes."""
    images = Images(x, y, x, y)
    data = ImagesModule(images, replace(cfg.data, shift=recipe.shift), recipe.batch, seed)
    steps = epochs * data.steps_per_epoch
    calibration = normalize(x[:256], cfg.data)
    module = AloneModule(net, source.graph.with_classes(5), recipe, steps, seed, quantizer(cfg), calibration)
    with tempfile.TemporaryDirectory() as folder:
        fit(module, data, CPU, False, Path(folder), epochs)
    return net.eval()


def main(run_dir: str) -> None:
    cfg = compose("train", ["stage=finetune", "experiment=demo", f"run_dir={run_dir}"])
    start(cfg)
    images = load_data(cfg.data, True)
    cfg.data = replace(cfg.data, classes=5)
    models = sorted(path.parent for path in Path(run_dir).glob("models/*/card.json"))
    source = Source.of(models[len(models) // 2], cfg.data)
    graph = source.graph.with_classes(5)
    print(f"{models[len(models) // 2]}: mean of {SEEDS} seeds a half of the classes, and how often the start is better")

    def fresh(seed: int) -> Elastic:
        torch.manual_seed(seed)
        return Elastic(graph, input_range(cfg.data), source.padding).to(memory_format=torch.channels_last)

    for old, new in (CLASSES, CLASSES[::-1]):
        begun = trained(cfg, source, fresh(0), cfg.baseline, *of_classes(images.train, images.train_labels, old), 8, 0)
        x, y = of_classes(images.train, images.train_labels, new)
        test, labels = of_classes(images.test, images.test_labels, new)
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            few = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:EACH] for c in range(5)])
            mine = x[few], y[few]
            for epochs in (0, *EPOCHS):
                for kind in ("from the model", "from nothing"):
                    if epochs == 0 and kind == "from nothing":
                        continue
                    began, net, recipe, passes = (
                        time.perf_counter(),
                        fresh(seed),
                        replace(cfg.finetune, **NOTHING),
                        LONGER * epochs,
                    )
                    if kind == "from the model":
                        net, recipe, passes = copy.deepcopy(begun), cfg.finetune, epochs
                        calibration = normalize(mine[0], cfg.data)
                        fit_classifier(net, graph, Normalized(mine[0], cfg.data), mine[1], calibration, recipe.head)
                        net.init_quantizers(calibration[:256], [graph], graph, quantizer(cfg))
                    if passes:
                        trained(cfg, source, net, recipe, *mine, passes, seed)
                    seconds = time.perf_counter() - began
                    calibration = normalize(mine[0], cfg.data)
                    top1 = recalibrated_top1(net.eval(), graph, quantizer(cfg), calibration, Normalized(test, cfg.data), labels)
                    found.setdefault((kind, epochs), []).append((top1, seconds))
        for epochs in (0, *EPOCHS):
            top1s, seconds = np.array(found["from the model", epochs]).T
            line = f"classes {new}: from the model, {epochs} passes: {top1s.mean():.2f} % in {seconds.mean():.1f} s"
            if epochs:
                others, longer = np.array(found["from nothing", epochs]).T
                line += f"; from nothing, {LONGER * epochs}: {others.mean():.2f} % in {longer.mean():.1f} s; "
                line += f"{np.mean(top1s - others):+.2f} points, better in {np.sum(top1s > others)} of {SEEDS}"
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
