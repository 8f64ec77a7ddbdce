"""BatchNorm recalibration and accuracy of one subnet of an elastic module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from spaceevo.nn.elastic import Elastic, Quantizer, Stats, resize, schedule
from spaceevo.sliced import Sliced
from spaceevo.space import Graph
from spaceevo.space.graph import INPUT

EVAL_BATCH, EVAL_PIXELS = 500, 2_000_000  # images at a time, and pixels of them


ImageSource = Sliced[Tensor]  # normalized images [N, C, H, W]: a tensor, or what makes slices of one when asked


@torch.no_grad()
def calibrate(net: Elastic, graph: Graph, batches: Iterable[Tensor], quantizer: Quantizer | None = None) -> Stats:
    """BatchNorm statistics of ``graph`` over ``batches`` (``[B, C, H, W]``, at the graph's size).

    Op by op over all images, so that a layer's statistics are those of its inputs as the layers before it, with their final
    statistics, make them: how the images fall into batches makes no difference beyond rounding. All live feature maps of
    all images are held at once.
    """
    runs = [{INPUT: net.enter(x, quantizer)} for x in batches]
    stats: Stats = {}
    for op, finished in schedule(graph):
        weight = net.quantized_weight(op, quantizer) if op.norm else None
        if weight is not None:
            for values in runs:
                values[op.name] = net.conv(op, values[op.inputs[0]], weight)
            stats[op.name] = pooled_moments(values[op.name] for values in runs)
        for values in runs:
            if weight is not None:
                y = net.normalize(op, graph, values[op.name], quantizer, stats)
            else:
                y = net.run(op, graph, [values[name] for name in op.inputs], quantizer, stats)
            values[op.name] = net.leave(op, y, quantizer)
            for name in finished:
                del values[name]
    return stats


def pooled_moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance a channel ``[C]`` over all images and positions of ``batches`` ``[B, C, H, W]``, in
    float64 from each batch's own (Chan et al., 1979)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for y in batches:
        here = y.numel() // y.shape[1]
        var, centre = (part.double() for part in torch.var_mean(y.float(), (0, 2, 3), correction=0))
        difference, total = centre - mean, count + here
        mean = mean + difference * (here / total)
        squares = squares + var * here + difference.square() * (count * here / total)
        count = total
    return mean.float(), (squares / count).float()


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
    from torchmetrics.functional.classification import multiclass_accuracy  # imports all of torchmetrics: a second

    return 100 * float(multiclass_accuracy(scores.argmax(1), labels, scores.shape[1], average="micro"))


def recalibrated(
    net: Elastic, graph: Graph, quantizer: Quantizer | None, calibration: ImageSource, images: ImageSource
) -> Tensor:
    """``[N, classes]`` of ``images`` with BatchNorm statistics recalibrated on ``calibration`` ``[N, C, H, W]``."""
    stats = calibrate(net, graph, resized(calibration, graph.input.hw), quantizer)
    return logits(net, graph, stats, images, quantizer).cpu()


def recalibrated_top1(
    net: Elastic, graph: Graph, quantizer: Quantizer | None, calibration: ImageSource, images: ImageSource, labels: Tensor
) -> float:
    """Top-1 in percent with BatchNorm statistics recalibrated on ``calibration`` ``[N, C, H, W]``."""
    return top1(recalibrated(net, graph, quantizer, calibration, images), labels)
