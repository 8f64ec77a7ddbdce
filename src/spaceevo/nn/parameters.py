"""What is trained of an op, and what quantizers are initialized from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spaceevo.nn.lsq import Scale, TensorQuantizer, sample
from spaceevo.space.graph import FUSED, Op


class OpParameters(nn.Module):
    """The trained tensors of one op: weight, BatchNorm gain and shift or bias, and its LSQ+ scales."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        if op.has_weight:
            self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(op.weight_shape), mode="fan_out"))
            if op.kind == "depthwise":
                nn.init.kaiming_normal_(self.weight, mode="fan_in")
            if op.norm:
                self.gain = nn.Parameter(torch.ones(op.cout))
            if op.norm or op.bias:
                self.shift = nn.Parameter(torch.zeros(op.cout))
            self.weight_scale = Scale()
        if op.kind != "maxpool" and op.act != "hsigmoid":  # its input's integers; the range [0, 1]
            self.output = TensorQuantizer(from_zero=op.act in FUSED)


def attach(root: nn.Module, dotted: str, leaf: nn.Module) -> None:
    """Place ``leaf`` at ``root.a.b.c``, making the modules between."""
    *parents, last = dotted.split(".")
    for name in parents:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    root.add_module(last, leaf)


class Values(dict[str, Tensor]):
    """A record that keeps of each op's outputs the extremes and a sample, and no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.extremes: dict[str, tuple[float, float]] = {}
        self.samples: dict[str, list[Tensor]] = {}

    def __setitem__(self, name: str, y: Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(y))
        old = self.extremes.get(name, (0.0, 0.0))
        self.extremes[name] = (min(low, old[0]), max(high, old[1]))
        self.samples.setdefault(name, []).append(sample(y).clone())

    def of(self, name: str) -> tuple[Tensor, float, float]:
        """A sample of an op's values ``[N]``, and their range (0 is in it)."""
        return (sample(torch.cat(self.samples[name])), *self.extremes[name])
