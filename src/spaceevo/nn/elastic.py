"""The elastic module: weights of the largest graph, sliced per op by whatever graph is run through them.

``forward(x, graph)`` interprets an op graph, so the same module is the supernet, a BKD student stage or one
extracted subnet. BatchNorm statistics belong to a subnet, not to the shared weights: without ``stats`` the
batch's own are used (training), with ``stats`` the BatchNorm is folded into the convolution (evaluation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaceevo.nn.lsq import ACT_MAX, MIN_SCALE, fake_quant_activation, fake_quant_weight, init_weight_scale
from spaceevo.space.graph import FUSED, INPUT, Graph, Op

BN_EPS = 1e-5
GATE_SCALE = 1 / ACT_MAX  # sigmoid and hard-sigmoid outputs fill [0, 1]
Stats = dict[str, tuple[Tensor, Tensor]]
SIGMOID_SCALE = 1 / (ACT_MAX + 1)  # a sigmoid does not reach 1, and TFLite's has this scale


@dataclass
class Quantizer:
    """How a device holds tensors: see ``conf/device``. ``weight_bits``: 8, or 7 on x86 without VNNI.

    What is not here is the same on all devices: activations have 8 bits, and ``hswish`` and ``swish`` are a gate (a hard
    sigmoid, a sigmoid) rounded to 8 bits and a product, which every runtime has integer kernels for.
    """

    weight_bits: int = 8


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
            self.weight_scale = nn.Parameter(torch.tensor(1.0))
        if op.kind == "maxpool":
            return  # its output is of its input's integers
        if op.act != "hsigmoid":
            self.scale = nn.Parameter(torch.tensor(1.0))
        if op.act not in FUSED:  # a fused activation's range starts at 0
            self.offset = nn.Parameter(torch.tensor(0.0))


class Elastic(nn.Module):
    """Shared weights for every graph whose ops are among those of ``superset``."""

    def __init__(self, superset: Graph, input_range: tuple[float, float] = (0.0, 1.0), padding: str = "symmetric") -> None:
        """``input_range``: least and greatest value of the input tensor, which fix its quantizer. ``padding``: how
        convolutions and pools of stride 2 pad, one of ``space.graph.PADDINGS``."""
        super().__init__()
        self.padding = padding
        self.ops_by_name: dict[str, OpParameters] = {}
        self.body = nn.Module()
        for op in superset.ops:
            parameters = OpParameters(op)
            _attach(self.body, op.name, parameters)
            self.ops_by_name[op.name] = parameters
        self.input_scale: Tensor
        self.input_offset: Tensor
        self.register_buffer("input_scale", torch.tensor(1.0))
        self.register_buffer("input_offset", torch.tensor(0.0))
        self.set_input_range(*input_range)

    def set_input_range(self, low: float, high: float) -> None:
        """Fix the input tensor's quantizer to hold ``low`` to ``high`` (and 0)."""
        low, high = min(low, 0.0), max(high, 0.0)
        self.input_scale.fill_(max(high - low, 1e-3) / ACT_MAX)
        self.input_offset.fill_(low)

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        graph: Graph,
        *,
        quantizer: Quantizer | None = None,
        stats: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        record: dict[str, Tensor] | None = None,
        collect: Stats | None = None,
    ) -> Tensor:
        """Run ``graph`` on ``x`` ``[B, C, H, W]``.

        ``quantizer``: fake-quantize every tensor the runtime holds in 8 bits. ``stats``: BatchNorm mean and variance
        per op (else the batch's own). ``record`` receives every op's output, ``collect`` the batch statistics.
        """
        if quantizer is not None:
            x = fake_quant_activation(x, self.input_scale, self.input_offset)
        values, scales = {INPUT: x}, {INPUT: self.input_scale}
        last_use = {name: op.name for op in graph.ops for name in op.inputs}
        for op in graph.ops:
            inputs = [values[name] for name in op.inputs]
            if op.has_weight:
                y = self._conv(op, inputs[0], scales[op.inputs[0]], quantizer, stats, collect)
            else:
                y = self._plain(op, inputs, quantizer)
            if quantizer is None or op.kind == "maxpool":
                scales[op.name] = scales[op.inputs[0]]
            else:
                scales[op.name], offset = self.output_quantizer(op)
                y = fake_quant_activation(y, scales[op.name], offset)
            values[op.name] = y
            for name in set(op.inputs):
                if last_use[name] == op.name:
                    del values[name]  # without gradients, its memory is free again
            if record is not None:
                record[op.name] = y
        return values[graph.ops[-1].name]

    def _conv(
        self,
        op: Op,
        x: Tensor,
        input_scale: Tensor,
        quantizer: Quantizer | None,
        stats: Mapping[str, tuple[Tensor, Tensor]] | None,
        collect: Stats | None,
    ) -> Tensor:
        p = self.ops_by_name[op.name]
        weight = self.weight(op)
        if quantizer is not None:
            weight = fake_quant_weight(weight, p.weight_scale, quantizer.weight_bits)
        if op.norm and stats is None:
            y = self._conv2d(op, x, weight)
            gain, shift = p.gain[: op.cout], p.shift[: op.cout]
            if collect is None:
                y = F.batch_norm(y, None, None, gain, shift, training=True, eps=BN_EPS)
            else:
                y, mean, inverse_std = torch.native_batch_norm(y, gain, shift, None, None, True, 0.0, BN_EPS)
                collect[op.name] = (mean, inverse_std.pow(-2) - BN_EPS)
        else:
            factor, bias = self.folded(op, stats)
            if quantizer is not None:
                bias = self.on_grid(op, bias, factor, input_scale)
            weight = weight if factor is None else weight * factor[:, None, None, None]
            y = self._conv2d(op, x, weight, bias if op.norm or op.bias else None)
        if op.act == "hsigmoid":
            return y / 6 + 0.5 if quantizer is not None else F.hardsigmoid(y)
        return _fused(op.act, y) if quantizer is None else y

    def _conv2d(self, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x, pad = self._padded(op, x, 0.0)
        return F.conv2d(x, weight, bias, op.stride, pad, groups=op.cout if op.kind == "depthwise" else 1)

    def _padded(self, op: Op, x: Tensor, value: float) -> tuple[Tensor, int]:
        """``x`` and the padding that is left to do; unequal padding is done here."""
        before, after = op.pads(self.padding)
        if before == after:
            return x, before
        return F.pad(x, (before, after, before, after), value=value), 0

    def _plain(self, op: Op, inputs: list[Tensor], quantizer: Quantizer | None) -> Tensor:
        x = inputs[0]
        if op.kind == "add":
            y = x + inputs[1]
            return _fused(op.act, y) if quantizer is None else y
        if op.kind == "mul":
            return x * inputs[1]
        if op.kind == "mean":
            return x.mean((2, 3), keepdim=True)
        if op.kind == "maxpool":
            x, pad = self._padded(op, x, -math.inf)
            return F.max_pool2d(x, op.kernel, op.stride, pad)
        hard = op.kind == "hswish"
        if quantizer is None:
            return F.hardswish(x) if hard else F.silu(x)
        gate, scale = (F.hardsigmoid(x), GATE_SCALE) if hard else (torch.sigmoid(x), SIGMOID_SCALE)
        return x * fake_quant_activation(gate, x.new_tensor(scale), x.new_tensor(0.0))

    # -- what exporters read ------------------------------------------------------------------------------------

    def weight(self, op: Op) -> Tensor:
        """The op's slice: leading channels, centre of the kernel. ``[cout, cin / groups, k, k]``."""
        full = self.ops_by_name[op.name].weight
        cout, cin, kernel, _ = op.weight_shape
        crop = (full.shape[2] - kernel) // 2
        return full[:cout, :cin, crop : crop + kernel, crop : crop + kernel]

    def folded(self, op: Op, stats: Mapping[str, tuple[Tensor, Tensor]] | None) -> tuple[Tensor | None, Tensor]:
        """Per-channel gain (None without a BatchNorm) and bias of the op with its BatchNorm folded."""
        p = self.ops_by_name[op.name]
        if not op.norm or stats is None:
            return None, p.shift[: op.cout] if op.bias else p.weight.new_zeros(op.cout)
        shift = p.shift[: op.cout]
        mean, var = stats[op.name]
        gain = p.gain[: op.cout] * torch.rsqrt(var + BN_EPS)
        return gain, shift - mean * gain

    def output_quantizer(self, op: Op) -> tuple[Tensor, Tensor]:
        """Scale and offset of the op's output tensor (its zero point: ``lsq.zero_point``)."""
        p = self.ops_by_name[op.name]
        if op.act == "hsigmoid":
            return self.input_scale.new_tensor(GATE_SCALE), self.input_scale.new_tensor(0.0)
        if op.act == "relu6":
            capped = p.scale.clamp(min=MIN_SCALE, max=6 / ACT_MAX)
            return p.scale + (capped - p.scale).detach(), self.input_scale.new_tensor(0.0)  # at the cap it still learns
        return p.scale.clamp(min=MIN_SCALE), (self.input_scale.new_tensor(0.0) if op.act in FUSED else p.offset)

    def on_grid(self, op: Op, bias: Tensor, gain: Tensor | None, input_scale: Tensor) -> Tensor:
        """The bias as the runtime holds it: int32 on the grid ``sx * sw[c]``."""
        step = input_scale * self.ops_by_name[op.name].weight_scale.clamp(min=MIN_SCALE)
        step = step if gain is None else step * gain.abs().clamp(min=MIN_SCALE)
        shift = 3.0 if op.act == "hsigmoid" else 0.0  # the gate's +1/2 is part of the stored bias
        return (((bias + shift) / step).round() * step - shift - bias).detach() + bias

    # -- quantizer initialization -------------------------------------------------------------------------------

    @torch.no_grad()
    def init_quantizers(self, x: Tensor, graphs: Iterable[Graph], superset: Graph, quantizer: Quantizer) -> None:
        """LSQ+ initial scales and offsets: weights by their spread, activations by the extremes they reach in full
        precision on the batch ``x`` over all ``graphs``; ops that none of them runs, by those in ``superset``."""
        extremes: dict[str, tuple[float, float]] = {}
        for graph in graphs:
            for name, (low, high) in self._extremes(x, graph).items():
                old = extremes.get(name, (0.0, 0.0))
                extremes[name] = (min(low, old[0]), max(high, old[1]))
        extremes = {**self._extremes(x, superset), **extremes}
        for name, p in self.ops_by_name.items():
            if hasattr(p, "weight"):
                p.weight_scale.copy_(init_weight_scale(p.weight, quantizer.weight_bits).clamp(min=MIN_SCALE))
            if name in extremes and hasattr(p, "scale"):
                low, high = extremes[name] if hasattr(p, "offset") else (0.0, extremes[name][1])
                scale = max(high - low, 1e-3) / ACT_MAX
                p.scale.fill_(scale)
                if hasattr(p, "offset"):
                    p.offset.fill_(low)

    def _extremes(self, x: Tensor, graph: Graph) -> dict[str, tuple[float, float]]:
        record: dict[str, Tensor] = {}
        self(resize(x, graph.input.hw), graph, record=record)
        return {name: tuple(float(v) for v in torch.aminmax(y)) for name, y in record.items()}  # type: ignore[misc]


def resize(x: Tensor, hw: int) -> Tensor:
    """Images ``[B, C, H, W]`` at ``hw`` x ``hw``: bilinear, antialiased, the same in training, search and the tests
    of exported models."""
    if x.shape[-1] == hw:
        return x
    y = F.interpolate(x, size=(hw, hw), mode="bilinear", antialias=True, align_corners=False)
    return y.contiguous(memory_format=torch.channels_last)


def _fused(act: str | None, y: Tensor) -> Tensor:
    if act == "relu":
        return F.relu(y)
    return F.relu6(y) if act == "relu6" else y


def _attach(root: nn.Module, dotted: str, leaf: nn.Module) -> None:
    """Place ``leaf`` at ``root.a.b.c``, making the modules between."""
    *parents, last = dotted.split(".")
    for name in parents:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    root.add_module(last, leaf)
