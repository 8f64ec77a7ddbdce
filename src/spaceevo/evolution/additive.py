"""A cost that adds up over blocks, for a whole batch of subnets: tables of what every block costs, looked up by genes.

What a block costs depends on its stage, its place (the first has the stage's stride), the input size, the input width and
its own three genes, and on nothing else: so each is built and priced once, and no graph is built in the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from spaceevo.evolution.genes import FIELDS, HEAD_WIDTH, RESOLUTION, STEM_DEPTH, STEM_WIDTH, GeneCode, Genes, StageGenes
from spaceevo.space import BlockConfig, ElasticStage, Op, Stage, Subnet, stage_graph

OpCost = Callable[[Op], float]
#: What a block costs, as one of a stage of its stride, by its input's width and size.
BlockCost = Callable[[ElasticStage, BlockConfig, int, int], float]
Placed = tuple[ElasticStage, BlockConfig, int, int]
#: By the width that a subnet under way has got to (its index): the least cost of getting there, and the genes that do, but
#: for those before the first stage's.
Reached = dict[int, tuple[float, tuple[int, ...]]]


@dataclass(frozen=True)
class _StageTable:
    """``first``: ``[resolutions, input widths, blocks]``, ``rest``: ``[resolutions, widths, blocks]``, both flat."""

    genes: StageGenes
    inputs: int
    first: np.ndarray
    rest: np.ndarray

    def cheapest(self, resolution: int, before: Reached) -> Reached:
        """Every width that the stage can end with, each by its cheapest sub-stage after ``before``."""
        here, stage = self.genes, self.genes.stage
        block = (len(stage.block.kernels), len(stage.widths), len(stage.block.expands))
        first = self.first.reshape(-1, self.inputs, *block)[resolution]
        rest = self.rest.reshape(-1, block[1], *block)[resolution]
        ends: Reached = {}
        at, deep = here.depth - (HEAD_WIDTH + 1), _with_block(before, first, same_width=False)
        for depth in range(1, here.blocks + 1):
            if depth > 1:
                deep = _with_block(deep, rest, stage.one_width)
            if depth in stage.depths:
                absent = (0,) * FIELDS * (here.blocks - depth)
                for width, (cost, genes) in deep.items():
                    whole = (cost, (*genes[:at], stage.depths.index(depth), *genes[at:], *absent))
                    ends[width] = min(whole, ends.get(width, whole))
        return ends


def of_ops(op: OpCost) -> BlockCost:
    """What a block costs whose ops cost ``op`` each."""

    def cost(stage: ElasticStage, block: BlockConfig, cin: int, hw: int) -> float:
        return sum(map(op, stage_graph(stage, (block,), cin, hw).ops))

    return cost


def placed(stage: ElasticStage, configs: Stage, cin: int, hw: int) -> Iterator[Placed]:
    """What a ``BlockCost`` is given of every block of a sub-stage, on an input ``[B, cin, hw, hw]``."""
    for config in configs:
        yield stage, config, cin, hw
        cin, hw, stage = config.width, -(-hw // stage.stride), replace(stage, stride=1)


def placed_in(net: Subnet) -> Iterator[Placed]:
    """The same of every block of a subnet."""
    cin, hw = net.stem_width, -(-net.resolution // net.space.hyperspace.stem.reduction)
    for stage, configs in zip(net.space.all_stages, net.stages, strict=True):
        yield from placed(stage, configs, cin, hw)
        cin, hw = configs[-1].width, -(-hw // stage.stride)


class AdditiveCost:
    """``cost(genes) -> [N]``, in the unit of its two parts."""

    def __init__(self, code: GeneCode, whole: Callable[[Subnet], float], block: BlockCost) -> None:
        """``whole``: the cost of a subnet, which is the sum of ``block`` over its blocks and of something that depends on stem,
        resolution, head and the last block's width alone."""
        self.code = code
        hs = code.space.hyperspace
        sizes = [-(-r // hs.stem.reduction) for r in hs.resolutions]
        inputs: tuple[int, ...] = hs.stem.widths
        self._stages = []
        for here in code.stages:
            stage = here.stage
            first, rest = block_costs(stage, inputs, sizes, block)
            self._stages.append(_StageTable(here, len(inputs), first.ravel(), rest.ravel()))
            sizes, inputs = [-(-hw // stage.stride) for hw in sizes], stage.widths
        self._fixed = _fixed(code, whole, block)

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

    def cheapest(self) -> Genes:
        """``[1, length]``: the subnet that costs least of all of the space, by dynamic programming from block to block; the
        least of every choice (``Subnet.smallest``) may cost more."""
        found = []
        for resolution, stem_width in np.ndindex(self._fixed.shape[:2]):
            reached: Reached = {stem_width: (0.0, ())}
            for table in self._stages:
                reached = table.cheapest(resolution, reached)
            for width, (cost, genes) in reached.items():
                fixed = self._fixed[resolution, stem_width, :, width, :]
                depth, head = np.unravel_index(fixed.argmin(), fixed.shape)
                found.append((cost + float(fixed.min()), (resolution, stem_width, int(depth), int(head), *genes)))
        return np.array([min(found)[1]], np.uint8)


def _with_block(before: Reached, costs: np.ndarray, same_width: bool) -> Reached:
    """One block more after ``before``, of the cheapest kernel and expand ratio; ``costs``: ``[widths before, kernels, widths,
    expands]``."""
    after: Reached = {}
    for cin, (cost, genes) in before.items():
        for width in [cin] if same_width else range(costs.shape[2]):
            choices = costs[cin, :, width, :]
            kernel, expand = np.unravel_index(choices.argmin(), choices.shape)
            longer = (cost + float(choices.min()), (*genes, int(kernel), width, int(expand)))
            after[width] = min(longer, after.get(width, longer))
    return after


def block_costs(
    stage: ElasticStage, inputs: tuple[int, ...], sizes: list[int], block: BlockCost
) -> tuple[np.ndarray, np.ndarray]:
    """Of every block as the first of ``stage`` ``[sizes, inputs, kernels, widths, expands]``, and after the first ``[sizes,
    widths before, kernels, widths, expands]``; ``sizes``: of the stage's input, pixels."""
    out = [-(-hw // stage.stride) for hw in sizes]
    return _table(stage, inputs, sizes, block), _table(replace(stage, stride=1), stage.widths, out, block)


def _table(stage: ElasticStage, inputs: tuple[int, ...], sizes: list[int], block: BlockCost) -> np.ndarray:
    choices = (stage.block.kernels, stage.widths, stage.block.expands)
    configs = [BlockConfig(*choice) for choice in product(*choices)]
    known = {hw: [block(stage, config, cin, hw) for cin in inputs for config in configs] for hw in sorted(set(sizes))}
    return np.array([known[hw] for hw in sizes]).reshape(len(sizes), len(inputs), *map(len, choices))


def _fixed(code: GeneCode, whole: Callable[[Subnet], float], block: BlockCost) -> np.ndarray:
    """Of all but the stages: ``[resolutions, stem widths, stem depths, widths of the last stage, head widths]``."""
    hs, last = code.space.hyperspace, code.stages[-1].stage.widths
    choices = (hs.resolutions, hs.stem.widths, hs.stem.depths, last, code.head_widths)

    def cost(resolution: int, stem_width: int, stem_depth: int, width: int, head_width: int | None) -> float:
        small = Subnet.smallest(code.space, resolution)
        ends = tuple(replace(config, width=width) for config in small.stages[-1])
        net = replace(
            small, stem_width=stem_width, stem_depth=stem_depth, head_width=head_width, stages=(*small.stages[:-1], ends)
        )
        return whole(net) - sum(block(*one) for one in placed_in(net))

    values = [cost(*choice) for choice in product(*choices)]
    return np.array(values).reshape([len(c) for c in choices])
