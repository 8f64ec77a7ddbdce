"""Ops without weights, and what every op does around its own: padding and fused activations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.nn.lsq import hold
from spaceevo.nn.scheme import Quantizer
from spaceevo.space.graph import Op


def plain_op(op: Op, inputs: list[Tensor], padding: str, quantizer: Quantizer | None) -> Tensor:
    """What an op without weights makes of its ``inputs``; where there is a ``quantizer``, the output's range is the clamp."""
    x = inputs[0]
    if op.kind == "add":
        y = x + inputs[1]
        return fused(op.act, y) if quantizer is None else y
    if op.kind == "mul":
        return x * inputs[1]
    if op.kind == "mean":
        return x.mean((2, 3), keepdim=True)
    if op.kind == "maxpool":
        x, pad = padded(op, x, padding, -math.inf)
        return F.max_pool2d(x, op.kernel, op.stride, pad)
    hard = op.kind == "hswish"
    if quantizer is None:
        return F.hardswish(x) if hard else F.silu(x)
    gate, kind = (F.hardsigmoid(x), "hsigmoid") if hard else (torch.sigmoid(x), "sigmoid")
    return x * hold(gate, *fixed(quantizer.gate_scale(kind), x, quantizer.zero), quantizer)


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


def fixed(scale: float, like: Tensor, zero: int) -> tuple[Tensor, Tensor]:
    """A scale and a zero point that are not learned."""
    return like.new_tensor(scale), like.new_tensor(float(zero))
