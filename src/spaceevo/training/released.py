"""A supernet that the paper's authors released, as it is: what it computes in their own arithmetic; and ours written as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.nn.elastic import BN_EPS, Elastic, Stats, schedule
from spaceevo.nn.plain import fused, plain_op
from spaceevo.nn.scheme import ACT_MAX
from spaceevo.space import Graph, SearchSpace
from spaceevo.space.graph import INPUT, Op
from spaceevo.training.authors import LEARNED, layers_of
from spaceevo.training.states import BATCHES, NORM
from spaceevo.training.supernet import make_supernet

WEIGHT_MIN, WEIGHT_MAX = -128, 127


@dataclass(frozen=True)
class Released:
    """A released supernet of ``space`` as it is: our weights, BatchNorm statistics ``[cout]`` by op, and what its quantizers
    learned, ``(sw, sa, beta)`` by op (none in FP32)."""

    space: SearchSpace
    net: Elastic
    stats: Stats
    learned: Mapping[str, tuple[float, float, float]]

    def stats_of(self, graph: Graph) -> Stats:
        """The stored statistics of ``graph``'s channels: as ``net`` takes them."""
        return {op.name: (self.stats[op.name][0][: op.cout], self.stats[op.name][1][: op.cout]) for op in graph.ops if op.norm}

    @torch.no_grad()
    def forward(self, x: Tensor, graph: Graph, int8: bool = False, record: dict[str, Tensor] | None = None) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, R, R]`` as the authors' code computes them with the stored statistics;
        ``int8``: each layer's input and weight rounded. ``record`` receives every op's output."""
        values = {INPUT: x}
        for op, finished in schedule(graph):
            inputs = [values[name] for name in op.inputs]
            y = values[op.name] = self._run(op, inputs, int8)
            for name in finished:
                del values[name]
            if record is not None:
                record[op.name] = y
        return values[graph.ops[-1].name].flatten(1)

    def _run(self, op: Op, inputs: list[Tensor], int8: bool) -> Tensor:
        if not op.has_weight:
            return plain_op(op, inputs, self.net.padding, quantizer=None)
        x, weight, p = inputs[0], self.net.weight(op), self.net.ops_by_name[op.name]
        if int8:
            sw, sa, beta = self.learned[op.name]
            x = torch.clamp((x - beta) / sa, 0, ACT_MAX).round() * sa + beta
            weight = torch.clamp(weight / sw, WEIGHT_MIN, WEIGHT_MAX).round() * sw
        y = self.net.conv(op, x, weight, p.shift[: op.cout] if op.bias else None)
        if op.norm:
            mean, var = (part[: op.cout] for part in self.stats[op.name])
            y = F.batch_norm(y, mean, var, p.gain[: op.cout], p.shift[: op.cout], eps=BN_EPS)
        return F.hardsigmoid(y) if op.act == "hsigmoid" else fused(op.act, y)


@torch.no_grad()
def released(state: Mapping[str, Tensor], space: SearchSpace, padding: str = "symmetric") -> Released:
    """The supernet that ``state`` holds, which is one of ``space`` (:func:`check_state`)."""
    net, stats, learned = make_supernet(space, (0.0, 1.0), padding), {}, {}
    layers = layers_of(space)
    for name, p in net.ops_by_name.items():
        if name not in layers:
            continue
        layer, (cout, cin, kernel, _) = layers[name], p.weight.shape
        weight = state[f"{layer.key}.weight"].view(layer.op.weight_shape)
        crop = (weight.shape[2] - kernel) // 2
        p.weight.copy_(weight[:cout, :cin, crop : crop + kernel, crop : crop + kernel])
        if layer.norm is None:
            p.shift.copy_(state[f"{layer.key}.bias"][:cout])
        else:
            gain, shift, mean, var = (state[f"{layer.norm}.{part}"][:cout] for part in NORM)
            p.gain.copy_(gain)
            p.shift.copy_(shift)
            stats[name] = mean.clone(), var.clone()
        if f"{layer.key}.sw" in state:
            sw, sa, beta = (float(state[f"{layer.key}.{part}"]) for part in LEARNED)
            learned[name] = abs(sw), abs(sa), beta
    return Released(space, net.eval(), stats, learned)


@torch.no_grad()
def state_of(supernet: Released) -> dict[str, Tensor]:
    """A supernet in the authors' format: what theirs has and ours does not is 0. Of a stack of depthwise convolutions they hold
    one BatchNorm, the last's."""
    state: dict[str, Tensor] = {}
    for name, layer in layers_of(supernet.space).items():
        p, learned = supernet.net.ops_by_name[name], supernet.learned.get(name)
        weight = torch.zeros(layer.op.weight_shape)
        cout, cin, _, _ = p.weight.shape
        weight[:cout, :cin] = p.weight
        state[f"{layer.key}.weight"] = weight.view(layer.shape).clone()
        if layer.norm is None:
            state[f"{layer.key}.bias"] = _padded(p.shift, layer.op.cout)
        if learned is not None:
            state |= {f"{layer.key}.{part}": torch.tensor([value]) for part, value in zip(LEARNED, learned, strict=True)}
        if layer.norm is not None:
            held = (p.gain, p.shift, *supernet.stats[name])
            state |= {f"{layer.norm}.{part}": _padded(value, layer.op.cout) for part, value in zip(NORM, held, strict=True)}
            state[f"{layer.norm}.{BATCHES}"] = torch.tensor(0)
    return state


def _padded(values: Tensor, count: int) -> Tensor:
    return F.pad(values.detach().float(), (0, count - len(values))).clone()
