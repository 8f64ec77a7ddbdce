"""A subnet's quality from the accuracy table alone: the NSR of any sub-stage by a regression on the tabulated ones.

One smooth model a stage (``smooth.py``), of the rows of all block types and width windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.genes import RESOLUTION, STEM_WIDTH, GeneCode, Genes, StageGenes
from spaceevo.evolution.smooth import SmoothNsr, features_of
from spaceevo.space import parse_stage

if TYPE_CHECKING:
    import pandas as pd


class NsrSums:
    """``proxy(genes) -> [N]``: the predicted NSR summed over the searched stages, lower is better; ``stages(genes)``: of each
    of them ``[N, stages]``."""

    def __init__(self, code: GeneCode, lut: pd.DataFrame) -> None:
        """``lut``: rows of ``lut.parquet``.

        Raises:
            UserError: a stage without rows of its block type.
        """
        self.code = code
        self.worst = float(lut.groupby("stage").nsr.max().sum())  # no tabulated subnet of any space has a larger sum
        self._models = []
        for number, block in enumerate(code.space.types, start=1):
            rows = lut[lut.stage == number]
            if not (rows.type == block).any():
                raise UserError(f"lut.parquet: no rows of stage {number} with block type {block}, which {code.space} has")
            features = features_of(rows.resolution.to_numpy(), rows.cin.to_numpy(), _blocks_of(rows.config))
            self._models.append(SmoothNsr(rows.type.to_numpy(), features, rows.nsr.to_numpy(float)))

    def __call__(self, genes: Genes) -> np.ndarray:
        return self.stages(genes).sum(1)

    def stages(self, genes: Genes) -> np.ndarray:
        """The predicted NSR of every searched stage: ``[N, stages]``."""
        every = sub_stage_features(self.code, genes)
        searched = (features for here, features in every if here.stage.name != "stage0")
        models = zip(self.code.space.types, self._models, searched, strict=True)
        return np.column_stack([model.nsr(np.full(len(genes), block), features) for block, model, features in models])


def sub_stage_features(code: GeneCode, genes: Genes) -> Iterator[tuple[StageGenes, np.ndarray]]:
    """Every stage of the space, with ``features_of`` what each subnet has there: ``[N, F]``."""
    hs = code.space.hyperspace
    resolution = np.asarray(hs.resolutions)[genes[:, RESOLUTION]]
    cin = np.asarray(hs.stem.widths)[genes[:, STEM_WIDTH]]
    for here in code.stages:
        blocks = _values(here, genes)
        yield here, features_of(resolution, cin, blocks)
        cin = blocks[np.arange(len(genes)), here.depths(genes) - 1, 1]


def _values(here: StageGenes, genes: Genes) -> np.ndarray:
    """Kernel, width and expand of every block, 0 where there is none: ``[N, blocks, 3]``."""
    block, chosen = here.stage.block, here.block_genes(genes)
    choices = (block.kernels, here.stage.widths, [expand or 0 for expand in block.expands])
    values = np.stack([np.asarray(c, float)[chosen[:, :, i]] for i, c in enumerate(choices)], 2)
    return values * here.alive(genes)[:, :, None]


def _blocks_of(configs: pd.Series) -> np.ndarray:
    """Kernel, width and expand of every block of the rows, 0 where there is none: ``[N, blocks, 3]``."""
    stages = [[(b.kernel, b.width, b.expand or 0) for b in parse_stage(text)] for text in configs]
    blocks = np.zeros((len(stages), max(map(len, stages)), 3))
    for values, stage in zip(blocks, stages, strict=True):
        values[: len(stage)] = stage
    return blocks
