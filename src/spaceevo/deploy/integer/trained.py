"""The trained model as the judge of what was exported: the supernet as it stands, which takes nothing from a file.

Ops are judged one by one on the file's own inputs, so that no difference is carried from one to the next. What is left
between fake quantization in float32 and a runtime's integers is a tie here and there, and what settling moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spaceevo.deploy.integer.model import ACT_MAX, GATES, Inspection, QParams, gate_qparams, least
from spaceevo.nn.elastic import Elastic, Quantizer, Stats, schedule
from spaceevo.nn.evaluate import ImageSource, logits
from spaceevo.nn.lsq import MIN_SCALE, zero_point
from spaceevo.space.graph import INPUT, Graph, Op


@dataclass(frozen=True)
class Trained:
    """A subnet of the supernet ``net``: its own BatchNorm ``stats``; ``quantizer`` None: in float."""

    net: Elastic
    graph: Graph
    stats: Stats
    quantizer: Quantizer | None

    @property
    def scheme(self) -> Quantizer:
        """The quantizer of one that is quantized."""
        assert self.quantizer is not None
        return self.quantizer

    def logits(self, images: ImageSource) -> Tensor:
        """``[N, classes]`` of normalized ``images`` ``[N, C, H, W]``."""
        return logits(self.net, self.graph, self.stats, images, self.quantizer)

    def qparams(self) -> dict[str, QParams]:
        """Scale and zero point of every tensor that a runtime holds: the input, every op's output and its gate's."""
        found = {INPUT: _qparams(*self.net.input(self.scheme.symmetric))}
        for op in self.graph.ops:
            if op.kind in GATES:
                found[f"{op.name}.gate"] = gate_qparams(GATES[op.kind], self.scheme)
            pool = op.kind == "maxpool"
            found[op.name] = found[op.inputs[0]] if pool else _qparams(*self.net.output_quantizer(op, self.scheme))
        return found

    @torch.no_grad()
    def constants_apart(self, op: Op, weight: np.ndarray, bias: np.ndarray) -> float:
        """By how much a file's real ``weight`` ``[cout, cin / groups, k, k]`` and ``bias`` ``[cout]`` can at most move a
        channel of the op's output, in steps of its quantizer; a step of the bias' own grid is free."""
        gain, shift = self.net.folded(op, self.stats)
        input_scale, step = (self.net.scale_of(name, self.graph, self.scheme) for name in (op.inputs[0], op.name))
        values, shift = self.net.quantized_weight(op, self.quantizer), self.net.on_grid(op, shift, gain, input_scale)
        values = values if gain is None else values * gain[:, None, None, None]
        if op.act == "hsigmoid":  # a file's weights and bias are of the gate: (y + 3) / 6
            values, shift = values / 6, shift / 6 + 0.5
        by_weight = (torch.from_numpy(weight) - values).abs().sum((1, 2, 3)) * input_scale * ACT_MAX
        by_bias = (torch.from_numpy(bias) - shift).abs()
        return float(((by_weight + by_bias) / step - self._grid(op)).max())

    @torch.no_grad()
    def ops_apart(self, file: Inspection, images: Tensor) -> Iterator[tuple[Op, Tensor]]:
        """How far every op of a file is from what the trained op makes of the file's own inputs, over ``images``
        ``[N, C, R, R]``: in steps of the output's quantizer, beyond the half step that rounding takes, a step of the bias'
        grid and one of a gate within the op, ``[N, C, H, W]``. A tie that falls the other way is no difference."""
        held = self.qparams()
        values = {INPUT: self.net.enter(images, self.quantizer)}
        for op, finished in schedule(self.graph):
            inputs = [values[name] for name in op.inputs]
            y = self.net.run(op, self.graph, inputs, self.quantizer, self.stats)
            scale, zero = held[op.name]
            y = y.clamp((least(op, held[op.name]) - zero) * scale, (ACT_MAX - zero) * scale)
            step, offset = file.qparams[op.name]
            given = values[op.name] = (torch.from_numpy(file.integers[op.name]).float() - offset) * step
            gate = inputs[0].abs() * held[f"{op.name}.gate"][0] if op.kind in GATES else 0
            free = 0.5 + (self._grid(op)[:, None, None] if op.has_weight else 0)
            yield op, ((given - y).abs() - gate) / scale - free
            for name in finished:
                del values[name]

    def _grid(self, op: Op) -> Tensor:
        """The steps of the bias' integers in steps of the output's, ``[cout]``."""
        gain, shift = self.net.folded(op, self.stats)
        gain = torch.ones_like(shift) if gain is None else gain
        step = self.net.scale_of(op.inputs[0], self.graph, self.scheme) * self.net.ops_by_name[op.name].weight_scale()
        step = step * gain.abs().clamp(min=MIN_SCALE) / (6 if op.act == "hsigmoid" else 1)
        return step / self.net.scale_of(op.name, self.graph, self.scheme)


def _qparams(scale: Tensor, zero: Tensor) -> QParams:
    return scale.item(), int(zero_point(zero))
