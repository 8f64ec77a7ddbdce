"""BatchNorm recalibration and accuracy of one subnet of an elastic module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from spaceevo.nn.elastic import Elastic, Quantizer, Stats, resize
from spaceevo.space import Graph

EVAL_BATCH, EVAL_PIXELS = 500, 2_000_000  # images at a time, and pixels of them


class ImageSource(Protocol):
    """Normalized images ``[N, C, H, W]``: a tensor, or what makes slices of one when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice, /) -> Tensor: ...


@torch.no_grad()
def calibrate(net: Elastic, graph: Graph, batches: Iterable[Tensor], quantizer: Quantizer | None = None) -> Stats:
    """BatchNorm statistics of ``graph``: the mean over ``batches`` (``[B, C, H, W]``, at the graph's size)."""
    total: Stats = {}
    count = 0
    for x in batches:
        stats: Stats = {}
        net(x, graph, quantizer=quantizer, collect=stats)
        for name, (mean, var) in stats.items():
            old = total.get(name)
            total[name] = (mean, var) if old is None else (old[0] + mean, old[1] + var)
        count += 1
    return {name: (mean / count, var / count) for name, (mean, var) in total.items()}


@torch.no_grad()
def logits(net: Elastic, graph: Graph, stats: Stats, images: ImageSource, quantizer: Quantizer | None = None) -> Tensor:
    """``[N, classes]`` of normalized ``images`` ``[N, C, H, W]``, resized to the graph's input."""
    parts = [net(x, graph, stats=stats, quantizer=quantizer).flatten(1) for x in resized(images, graph.input.hw)]
    return torch.cat(parts)


def resized(images: ImageSource, hw: int, batch: int | None = None) -> Iterator[Tensor]:
    """``images`` at ``hw`` x ``hw``, ``batch`` at a time (None: as many as may be in memory with their feature maps)."""
    step = batch or max(1, min(EVAL_BATCH, EVAL_PIXELS // hw**2))
    for start in range(0, len(images), step):
        yield resize(images[start : start + step], hw)


def top1(scores: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100 * float(multiclass_accuracy(scores.argmax(1), labels, scores.shape[1], average="micro"))
