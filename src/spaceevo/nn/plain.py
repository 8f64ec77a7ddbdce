"""Ops without weights, and what every op does around its own: padding and fused activations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.nn.lsq import ACT_MAX, fake_quant_activation
from spaceevo.space.graph import Op

GATE_SCALE = 1 / ACT_MAX  # sigmoid and hard-sigmoid outputs fill [0, 1]
SIGMOID_SCALE = 1 / (ACT_MAX + 1)  # a sigmoid does not reach 1, and TFLite's has this scale


def plain_op(op: Op, inputs: list[Tensor], padding: str, quantized: bool) -> Tensor:
    """What an op without weights makes of its ``inputs``; where the output is ``quantized``, its range is the clamp."""
    x = inputs[0]
    if op.kind == "add":
        y = x + inputs[1]
        return y if quantized else fused(op.act, y)
    if op.kind == "mul":
        return x * inputs[1]
    if op.kind == "mean":
        return x.mean((2, 3), keepdim=True)
    if op.kind == "maxpool":
        x, pad = padded(op, x, padding, -math.inf)
        return F.max_pool2d(x, op.kernel, op.stride, pad)
    hard = op.kind == "hswish"
    if not quantized:
        return F.hardswish(x) if hard else F.silu(x)
    gate, scale = (F.hardsigmoid(x), GATE_SCALE) if hard else (torch.sigmoid(x), SIGMOID_SCALE)
    return x * fake_quant_activation(gate, *fixed(scale, x))


def padded(op: Op, x: Tensor, padding: str, value: float) -> tuple[Tensor, int]:
    """``x`` and the padding that is left to do; unequal padding is done here."""
    before, after = op.pads(padding)
    if before == after:
        return x, before
    return F.pad(x, (before, after, before, after), value=value), 0


def fused(act: str | None, y: Tensor) -> Tensor:
    """``y`` after the activation that is fused into its op, if there is one."""
    if act == "relu":
        return F.relu(y)
    return F.relu6(y) if act == "relu6" else y


def fixed(scale: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """A scale that is not learned, and its zero point of 0."""
    return like.new_tensor(scale), like.new_tensor(0.0)
