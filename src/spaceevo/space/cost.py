"""Costs: named functions of an op graph, each with a unit. Latency is one more, made by a predictor.

Two rules count a model. ``graph_cost`` is exact: multiply-adds of convolutions and the linear layer; weights, two
parameters a BatchNorm channel, and biases. ``row_cost`` and ``stage_cost`` count a row of the look-up table as the authors'
published tables do: the same multiply-adds added up op by op in float32, and three parameters more a convolution (its
quantizer's scalars).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spaceevo.space.blocks import BLOCK_TYPES, BlockSpec
from spaceevo.space.graph import Graph, GraphBuilder
from spaceevo.space.hyperspace import Hyperspace

QUANTIZER_SCALARS = 3


@dataclass(frozen=True)
class Cost:
    """``mmacs``: multiply-adds in millions (convolutions and linear); ``params``: number of parameters."""

    mmacs: float
    params: int


def graph_cost(graph: Graph) -> Cost:
    """Of all ops of a graph."""
    return Cost(sum(op.macs for op in graph.ops) / 1e6, sum(op.params for op in graph.ops))


def row_cost(graph: Graph) -> Cost:
    """Of a sub-stage's graph, as a row of the published tables has it."""
    weighted = [op for op in graph.ops if op.has_weight]
    return Cost(_float32_sum([op.macs for op in weighted]) / 1e6, sum(op.params + QUANTIZER_SCALARS for op in weighted))


def stage_cost(
    hs: Hyperspace, stage: int, block: int, cin: int, hw: int, blocks: Iterable[tuple[int, int, float | None]]
) -> Cost:
    """The ``row_cost`` of one sub-stage, from costs of blocks that are remembered. ``stage`` counts from 1, ``block`` is
    the block type's index, ``hw`` the stage's input size, ``blocks`` are ``(kernel, width, expand)``."""
    choice, spec = hs.blocks[block], hs.stages[stage - 1]
    macs: list[int] = []
    params, stride = 0, spec.stride
    for kernel, width, expand in blocks:
        block_macs, block_params, hw = _block_cost(
            choice.type, cin, hw, BlockSpec(kernel, width, expand, stride, choice.act, spec.forced_residual)
        )
        macs += block_macs
        params += block_params
        cin, stride = width, 1
    return Cost(_float32_sum(macs) / 1e6, params)


def _float32_sum(values: list[int]) -> float:
    """Added up one by one in float32."""
    if sum(values) < 2**24:  # float32 holds every sum on the way
        return float(sum(values))
    return float(np.cumsum(values, dtype=np.float32)[-1])


@lru_cache(maxsize=1 << 18)
def _block_cost(kind: str, cin: int, hw: int, spec: BlockSpec) -> tuple[list[int], int, int]:
    """Multiply-adds of every convolution of a block, its parameters as the tables count, and its output's size."""
    g = GraphBuilder(cin, hw)
    out = BLOCK_TYPES[kind](g, g.x, spec)
    weighted = [op for op in g.graph.ops if op.has_weight]
    return [op.macs for op in weighted], sum(op.params + QUANTIZER_SCALARS for op in weighted), out.hw
