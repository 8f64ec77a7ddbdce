"""Handwritten digits to train on for a minute: scikit-learn's, enlarged and moved about, as many as are wanted."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.app.config import compose
from spaceevo.data import load_data
from spaceevo.data.module import flip_and_crop
from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.nn.evaluate import calibrate
from spaceevo.space import Graph

BATCH = 64


def moved_digits(n: int, hw: int, seed: int) -> tuple[Tensor, Tensor]:
    """``n`` images ``[n, 1, hw, hw]`` in [0, 1], each moved by up to 3 pixels, and labels."""
    data = compose("train", ["stage=teacher", "data=digits", "data.image_size=28"]).data
    data.image_size = hw
    images = load_data(data)
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(rng.integers(0, len(images.train), n))
    return flip_and_crop(images.train[chosen], rng, False, 3)[0].float() / 255, images.train_labels[chosen]


def train(graph: Graph, x: Tensor, y: Tensor, quantizer: Quantizer, epochs: tuple[int, int] = (6, 2)) -> tuple[Elastic, Stats]:
    """``epochs`` in FP32 and quantized; statistics of the quantized net."""
    torch.manual_seed(0)
    net = Elastic(graph).to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    for quant, count, lr in ((None, epochs[0], 0.1), (quantizer, epochs[1], 0.01)):
        if quant is not None:
            net.init_quantizers(x[:256], [graph], graph, quant)
        optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, nesterov=True)
        for _ in range(count):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(net(x[rows], graph, quantizer=quant).flatten(1), y[rows]).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
    return net, calibrate(net, graph, x[:512].split(BATCH), quantizer)
