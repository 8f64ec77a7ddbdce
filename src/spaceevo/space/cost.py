"""Costs: named functions of an op graph, each with a unit. Latency is one more, made by a predictor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spaceevo.space.build import stage_graph, subnet_graph
from spaceevo.space.graph import Graph
from spaceevo.space.hyperspace import Hyperspace
from spaceevo.space.searchspace import ElasticStage
from spaceevo.space.subnet import BlockConfig, Subnet


@dataclass(frozen=True)
class Cost:
    """``mmacs``: multiply-adds in millions (convolutions and linear); ``params``: number of parameters."""

    mmacs: float
    params: int


def graph_cost(graph: Graph) -> Cost:
    return Cost(sum(op.macs for op in graph.ops) / 1e6, sum(op.params for op in graph.ops))


def subnet_cost(net: Subnet) -> Cost:
    """Of a whole subnet, stem and head included."""
    return graph_cost(subnet_graph(net))


def stage_cost(
    hs: Hyperspace, stage: int, block: int, cin: int, hw: int, blocks: Iterable[tuple[int, int, float | None]]
) -> Cost:
    """Of one sub-stage, as in a row of the published tables. ``stage`` counts from 1, ``block`` is the block
    type's index, ``hw`` the stage's input size, ``blocks`` are ``(kernel, width, expand)``."""
    spec = hs.stages[stage - 1]
    elastic = ElasticStage(f"stage{stage}", hs.blocks[block], spec.widths, spec.depths, spec.stride)
    return graph_cost(stage_graph(elastic, tuple(BlockConfig(*b) for b in blocks), cin, hw))
