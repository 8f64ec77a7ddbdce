"""The subnets of a space as rows of small integers: drawn, mutated and crossed over a whole batch at a time.

A row is ``resolution, stem width, stem depth, head width``, then for every stage its depth and for each of its blocks, up
to the deepest, ``kernel, width, expand``. A gene is the index of a choice in the space's list of them. The genes of blocks
beyond the depth are 0, so equal subnets are equal rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spaceevo.space import BlockConfig, ElasticStage, SearchSpace, Subnet

RESOLUTION, STEM_WIDTH, STEM_DEPTH, HEAD_WIDTH = range(4)
FIELDS = 3  # of a block
Genes = np.ndarray  # [N, code.length], uint8


@dataclass(frozen=True)
class StageGenes:
    """Where a stage's genes lie: ``depth``, a column, and ``blocks`` times ``FIELDS`` columns from ``first``."""

    stage: ElasticStage
    depth: int
    first: int
    blocks: int

    @property
    def columns(self) -> slice:
        """The block genes."""
        return slice(self.first, self.first + FIELDS * self.blocks)

    def block_genes(self, genes: Genes) -> np.ndarray:
        """``[N, blocks, FIELDS]``, a view."""
        return genes[:, self.columns].reshape(len(genes), self.blocks, FIELDS)

    def depths(self, genes: Genes) -> np.ndarray:
        """How many blocks each subnet has here: ``[N]``."""
        return np.asarray(self.stage.depths)[genes[:, self.depth]]

    def alive(self, genes: Genes) -> np.ndarray:
        """Which blocks each subnet has: ``[N, blocks]``."""
        return np.arange(self.blocks) < self.depths(genes)[:, None]


class GeneCode:
    """The genes of one space. Every array of genes is ``[N, length]`` of uint8."""

    def __init__(self, space: SearchSpace) -> None:
        hs = space.hyperspace
        self.space = space
        self.head_widths: tuple[int | None, ...] = hs.head.final_expand if len(hs.head.final_expand) > 1 else (None,)
        sizes = [len(hs.resolutions), len(hs.stem.widths), len(hs.stem.depths), len(self.head_widths)]
        units = [*range(len(sizes))]  # what a crossover takes from one parent
        self.stages: list[StageGenes] = []
        for stage in space.all_stages:
            here = StageGenes(stage, len(sizes), len(sizes) + 1, max(stage.depths))
            block = [len(stage.block.kernels), len(stage.widths), len(stage.block.expands)]
            sizes += [len(stage.depths), *block * here.blocks]
            units += [len(self.stages) + 4] * (len(sizes) - len(units))
            self.stages.append(here)
        self.sizes = np.array(sizes)
        self.length = len(sizes)
        self._units = np.array(units)

    def sample(self, count: int, rng: np.random.Generator) -> Genes:
        """Random subnets: every choice uniform."""
        return self._canonical(self._draw(count, rng))

    def mutate(self, genes: Genes, probability: float, rng: np.random.Generator) -> Genes:
        """OFA's mutation of each: every choice is drawn anew with ``probability``; added blocks are random."""
        fresh = self._draw(len(genes), rng)
        changed = rng.random(genes.shape, dtype=np.float32) < probability
        children = np.where(changed, fresh, genes)
        for here in self.stages:
            added = here.alive(children) & ~here.alive(genes)
            blocks = here.block_genes(children)
            children[:, here.columns] = np.where(added[:, :, None], here.block_genes(fresh), blocks).reshape(
                len(genes), FIELDS * here.blocks
            )
        return self._canonical(children)

    def crossover(self, one: Genes, other: Genes, rng: np.random.Generator) -> Genes:
        """OFA's crossover of pairs: every stage, the stem, the head and the resolution from either parent."""
        first = rng.random((len(one), self._units[-1] + 1), dtype=np.float32) < 0.5
        return np.where(first[:, self._units], one, other)

    def encode(self, subnets: Sequence[Subnet]) -> Genes:
        """The genes of ``subnets`` of this space."""
        hs = self.space.hyperspace
        genes = np.zeros((len(subnets), self.length), np.uint8)
        for row, net in zip(genes, subnets, strict=True):
            row[RESOLUTION] = hs.resolutions.index(net.resolution)
            row[STEM_WIDTH], row[STEM_DEPTH] = hs.stem.widths.index(net.stem_width), hs.stem.depths.index(net.stem_depth)
            row[HEAD_WIDTH] = self.head_widths.index(net.head_width)
            for here, blocks in zip(self.stages, net.stages, strict=True):
                stage = here.stage
                row[here.depth] = stage.depths.index(len(blocks))
                for i, b in enumerate(blocks):
                    choice = (
                        stage.block.kernels.index(b.kernel),
                        stage.widths.index(b.width),
                        stage.block.expands.index(b.expand),
                    )
                    row[here.first + FIELDS * i : here.first + FIELDS * (i + 1)] = choice
        return genes

    def decode(self, genes: Genes) -> list[Subnet]:
        """The subnets of the rows."""
        return [self._subnet(row.tolist()) for row in genes]

    def _subnet(self, row: list[int]) -> Subnet:
        hs, stages = self.space.hyperspace, []
        for here in self.stages:
            kernels, widths, expands = here.stage.block.kernels, here.stage.widths, here.stage.block.expands
            starts = [here.first + FIELDS * i for i in range(here.stage.depths[row[here.depth]])]
            stages.append(tuple(BlockConfig(kernels[row[i]], widths[row[i + 1]], expands[row[i + 2]]) for i in starts))
        stem_width, stem_depth = hs.stem.widths[row[STEM_WIDTH]], hs.stem.depths[row[STEM_DEPTH]]
        head_width, resolution = self.head_widths[row[HEAD_WIDTH]], hs.resolutions[row[RESOLUTION]]
        return Subnet(self.space, stem_width, tuple(stages), resolution, head_width, stem_depth)

    def _draw(self, count: int, rng: np.random.Generator) -> Genes:
        return (rng.random((count, self.length), dtype=np.float32) * self.sizes.astype(np.float32)).astype(np.uint8)

    def _canonical(self, genes: Genes) -> Genes:
        """The same subnets, with 0 for blocks that are not there and one width a stage where it wants one; in place."""
        for here in self.stages:
            blocks = here.block_genes(genes).copy()
            if here.stage.one_width:
                blocks[:, :, 1] = blocks[:, :1, 1]
            genes[:, here.columns] = (blocks * here.alive(genes)[:, :, None]).reshape(len(genes), FIELDS * here.blocks)
        return genes
