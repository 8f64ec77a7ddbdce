"""What one network answers, as the targets of another (distillation: Hinton et al., 2015)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.data import Images, Normalized
from spaceevo.data.config import DataConfig
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import calibrate, logits, resized
from spaceevo.space import Graph


@torch.no_grad()
def answers(data: DataConfig, net: Elastic, graph: Graph, images: Images, calibration: Tensor) -> Tensor:
    """Shares of the classes ``[1 or 2, N, classes]`` that ``net`` gives the training images as they are and, where
    ``data.flip``, mirrored. They are made once, not a step: of an image that ``data.shift`` moves, its unmoved one's stand."""
    stats = calibrate(net, graph, resized(calibration, graph.input.hw))
    sides = [images.train, images.train[:].flip(3)] if data.flip else [images.train]
    return torch.stack([logits(net, graph, stats, Normalized(side, data)).softmax(1) for side in sides])


def easy_images(said: Tensor, labels: Tensor, sure: float, smoothing: float) -> np.ndarray:
    """Which images ``[N]`` have an easy label: it has more than ``sure`` of the answers ``said`` ``[1 or 2, N, classes]``, of
    what a label smoothed by ``smoothing`` asks for. They teach little: a few of them in an epoch do."""
    share = said[:, torch.arange(len(labels)), labels].mean(0)
    most = 1 - smoothing + smoothing / said.shape[2]
    return (share > sure * most).numpy()


def targets(share: float, data: DataConfig, images: Images, said: Tensor) -> Tensor:
    """What a network is to answer, ``[1 or 2, N, classes]``: the label, and by ``share`` what another
    ``said``."""
    label = F.one_hot(images.train_labels, data.classes).float()
    return torch.lerp(label.expand_as(said), said, share)
