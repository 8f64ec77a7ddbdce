"""BatchNorm recalibration and accuracy of one subnet of an elastic module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from spaceevo.nn.elastic import Elastic, Quantizer, Stats, resize
from spaceevo.space import Graph

EVAL_BATCH = 500


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
def logits(net: Elastic, graph: Graph, stats: Stats, images: Tensor, quantizer: Quantizer | None = None) -> Tensor:
    """``[N, classes]`` of normalized ``images`` ``[N, C, H, W]``, resized to the graph's input."""
    parts = [net(x, graph, stats=stats, quantizer=quantizer).flatten(1) for x in resized(images, graph.input.hw)]
    return torch.cat(parts)


def resized(images: Tensor, hw: int, batch: int = EVAL_BATCH) -> Iterator[Tensor]:
    """``images`` in batches at ``hw`` x ``hw``."""
    for x in images.split(batch):
        yield resize(x, hw)


def top1(scores: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100 * float(multiclass_accuracy(scores.argmax(1), labels, scores.shape[1], average="micro"))
