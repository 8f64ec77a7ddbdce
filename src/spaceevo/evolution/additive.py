"""A cost that adds up over ops, for a whole batch of subnets: tables of what every block costs, looked up by genes.

What a block costs depends on its stage, its place (the first has the stage's stride), the input size, the input width and
its own three genes, and on nothing else: so each is built and priced once, and no graph is built in the search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from spaceevo.evolution.genes import HEAD_WIDTH, RESOLUTION, STEM_DEPTH, STEM_WIDTH, GeneCode, Genes, StageGenes
from spaceevo.space import BlockConfig, ElasticStage, Graph, Op, Subnet, stage_graph, subnet_graph

OpCost = Callable[[Op], float]


@dataclass(frozen=True)
class _StageTable:
    """``first``: ``[resolutions, input widths, blocks]``, ``rest``: ``[resolutions, widths, blocks]``, both flat."""

    genes: StageGenes
    inputs: int
    first: np.ndarray
    rest: np.ndarray


class AdditiveCost:
    """``cost(genes) -> [N]``, in the unit of its two parts."""

    def __init__(self, code: GeneCode, whole: Callable[[Graph], float], op: OpCost) -> None:
        """``whole``: the cost of a graph, which is the sum of ``op`` over its ops and of something that depends on its
        input and output alone."""
        self.code = code
        hs = code.space.hyperspace
        sizes = [-(-r // hs.stem.reduction) for r in hs.resolutions]
        inputs: tuple[int, ...] = hs.stem.widths
        self._stages = []
        for here in code.stages:
            stage = here.stage
            first, rest = block_costs(stage, inputs, sizes, op)
            self._stages.append(_StageTable(here, len(inputs), first.ravel(), rest.ravel()))
            sizes, inputs = [-(-hw // stage.stride) for hw in sizes], stage.widths
        self._fixed = _fixed(code, whole, op)

    def __call__(self, genes: Genes) -> np.ndarray:
        resolution, cin = genes[:, RESOLUTION].astype(np.int32), genes[:, STEM_WIDTH].astype(np.int32)
        stem, rows = (cin, genes[:, STEM_DEPTH]), np.arange(len(genes))
        total = np.zeros(len(genes))
        for table in self._stages:
            here, stage = table.genes, table.genes.stage
            kernel, width, expand = np.moveaxis(here.block_genes(genes).astype(np.int32), 2, 0)
            block = (kernel * len(stage.widths) + width) * len(stage.block.expands) + expand
            count = len(stage.block.kernels) * len(stage.widths) * len(stage.block.expands)
            total += table.first[(resolution * table.inputs + cin) * count + block[:, 0]]
            depth = here.depths(genes)
            for i in range(1, here.blocks):
                cost = table.rest[(resolution * len(stage.widths) + width[:, i - 1]) * count + block[:, i]]
                total += cost * (depth > i)
            cin = width[rows, depth - 1]
        return total + self._fixed[resolution, stem[0], stem[1], cin, genes[:, HEAD_WIDTH]]


def block_costs(stage: ElasticStage, inputs: tuple[int, ...], sizes: list[int], op: OpCost) -> tuple[np.ndarray, np.ndarray]:
    """Of every block as the first of ``stage`` ``[sizes, inputs, kernels, widths, expands]``, and after the first ``[sizes,
    widths before, kernels, widths, expands]``; ``sizes``: of the stage's input, pixels."""
    out = [-(-hw // stage.stride) for hw in sizes]
    return _table(stage, inputs, sizes, op), _table(replace(stage, stride=1), stage.widths, out, op)


def _table(stage: ElasticStage, inputs: tuple[int, ...], sizes: list[int], op: OpCost) -> np.ndarray:
    block = (stage.block.kernels, stage.widths, stage.block.expands)
    blocks = [BlockConfig(*c) for c in product(*block)]

    def at(hw: int) -> list[float]:
        return [sum(map(op, stage_graph(stage, (block,), cin, hw).ops)) for cin in inputs for block in blocks]

    known = {hw: at(hw) for hw in sorted(set(sizes))}
    return np.array([known[hw] for hw in sizes]).reshape(len(sizes), len(inputs), *map(len, block))


def _fixed(code: GeneCode, whole: Callable[[Graph], float], op: OpCost) -> np.ndarray:
    """Of all but the stages: ``[resolutions, stem widths, stem depths, widths of the last stage, head widths]``."""
    hs, last = code.space.hyperspace, code.stages[-1].stage.widths
    choices = (hs.resolutions, hs.stem.widths, hs.stem.depths, last, code.head_widths)
    stages = {here.stage.name for here in code.stages}

    def cost(resolution: int, stem_width: int, stem_depth: int, width: int, head_width: int | None) -> float:
        small = Subnet.smallest(code.space, resolution)
        ends = tuple(replace(block, width=width) for block in small.stages[-1])
        net = replace(
            small, stem_width=stem_width, stem_depth=stem_depth, head_width=head_width, stages=(*small.stages[:-1], ends)
        )
        graph = subnet_graph(net)
        return whole(graph) - sum(op(o) for o in graph.ops if o.name.split(".")[0] in stages)

    values = [cost(*choice) for choice in product(*choices)]
    return np.array(values).reshape([len(c) for c in choices])
