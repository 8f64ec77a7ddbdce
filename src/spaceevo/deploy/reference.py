"""The integer reference: executes an integer model with the runtime's own roundings, integer for integer.

Values are kept as ``q - zero`` in float tensors, which hold them exactly; every op ends in a rounding to even. The order of
the float32 operations is that of onnxruntime's x86 kernels, so where this and a file part, the file is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.deploy.integer import ACT_MAX, GATE_QPARAMS, IntegerModel
from spaceevo.space.graph import INPUT, Op

EXACT_FLOAT32 = 2**24  # float32 holds every integer up to here


@dataclass(frozen=True)
class _Value:
    """A quantized tensor: ``x`` is ``q - zero`` ``[B, C, H, W]``, the real value ``x * scale``."""

    x: Tensor
    scale: np.float32
    zero: int


#: An op's output before clipping, in units of its output scale: integers, or rounded by the caller.
Kernel = Callable[[IntegerModel, Op, list[_Value], np.float32, int], Tensor]


def _conv(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    (a,) = inputs
    weight, bias = torch.from_numpy(model.weights[op.name]), torch.from_numpy(model.biases[op.name])
    bound = ACT_MAX * weight.double().abs().sum((1, 2, 3)) + bias.double().abs()
    dtype = torch.float32 if bound.max() < EXACT_FLOAT32 else torch.float64
    groups = op.cout if op.kind == "depthwise" else 1
    total = F.conv2d(a.x.to(dtype), weight.to(dtype), bias.to(dtype), op.stride, op.kernel // 2, 1, groups)
    return total.float() * torch.from_numpy(a.scale * model.weight_scales[op.name] / scale)[:, None, None]


def _mean(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    (a,) = inputs
    return a.x.sum((2, 3), keepdim=True) * float(a.scale / (scale * np.float32(op.in_hw**2)))


def _mul(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    a, b = inputs
    return a.x * b.x * float(a.scale * b.scale / scale)


def _add(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    """Two fused multiply-adds, which float64 imitates; rounded with the zero point added, which decides ties."""
    a, b = inputs
    ratio_a, ratio_b = float(a.scale / scale), float(b.scale / scale)
    fixed = float(zero - np.float32(ratio_a * a.zero + float(np.float32(ratio_b) * np.float32(b.zero))))
    partial = ((b.x + b.zero).double() * ratio_b + fixed).float()
    return ((a.x + a.zero).double() * ratio_a + partial.double()).float().round() - zero


def _hswish(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    real = inputs[0].x * float(inputs[0].scale)
    return F.hardswish(real) / float(scale)


def _swish(model: IntegerModel, op: Op, inputs: list[_Value], scale: np.float32, zero: int) -> Tensor:
    (a,) = inputs
    gate_scale = np.float32(GATE_QPARAMS[0])
    gate = (torch.sigmoid(a.x * float(a.scale)) / float(gate_scale)).round()
    return _mul(model, op, [a, _Value(gate, gate_scale, 0)], scale, zero)


KINDS: dict[str, Kernel] = {
    "conv": _conv,
    "depthwise": _conv,
    "mean": _mean,
    "mul": _mul,
    "add": _add,
    "hswish": _hswish,
    "swish": _swish,
}


@torch.no_grad()
def run_integer(model: IntegerModel, images: np.ndarray, record: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits ``[N, classes]`` of float32 images ``[N, C, R, R]``, each an integer times the output's scale.

    ``record`` receives every op's output integers, uint8.
    """
    scale, zero = _qparams(model, INPUT)
    values = {INPUT: _Value(_clip(torch.tensor(images) / float(scale), zero), scale, zero)}
    for op in model.graph.ops:
        scale, zero = _qparams(model, op.name)
        x = KINDS[op.kind](model, op, [values[name] for name in op.inputs], scale, zero)
        values[op.name] = _Value(_clip(x, zero), scale, zero)
        if record is not None:
            record[op.name] = (values[op.name].x + zero).to(torch.uint8).numpy()
    last = values[model.graph.output.name]
    return (last.x * float(last.scale)).flatten(1).numpy()


def _qparams(model: IntegerModel, name: str) -> tuple[np.float32, int]:
    scale, zero = model.qparams[name]
    return np.float32(scale), zero


def _clip(x: Tensor, zero: int) -> Tensor:
    """``x`` rounded to even and clipped to what uint8 holds about ``zero``."""
    return x.round().clamp_(-zero, ACT_MAX - zero)
