"""A subnet's quality from the accuracy table alone: the NSR of any sub-stage by a regression on the tabulated ones.

One ridge regression a stage, of log NSR on a few sums over the sub-stage's blocks. The rows of all width windows of the
space's block type serve, so a stage has some hundred rows where a window has some dozens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.genes import RESOLUTION, STEM_WIDTH, GeneCode, Genes, StageGenes
from spaceevo.space import parse_stage

if TYPE_CHECKING:
    import pandas as pd

FLOOR = 1e-6  # an NSR of 0 has no logarithm
RIDGE = 1e-2


class NSRProxy:
    """``proxy(genes) -> [N]``: the predicted NSR summed over the searched stages, lower is better."""

    def __init__(self, code: GeneCode, lut: pd.DataFrame) -> None:
        """``lut``: rows of ``lut.parquet``.

        Raises:
            UserError: a stage without rows of its block type.
        """
        self.code = code
        self.worst = float(lut.groupby("stage").nsr.max().sum())  # no tabulated subnet of any space has a larger sum
        self._searched = [here for here in code.stages if here.stage.name != "stage0"]
        self._weights = []
        for number, block in enumerate(code.space.types, start=1):
            rows = lut[(lut.stage == number) & (lut.type == block)]
            if rows.empty:
                raise UserError(f"lut.parquet: no rows of stage {number} with block type {block}, which {code.space} has")
            self._weights.append(_fit(_of_rows(rows), np.log(np.maximum(rows.nsr.to_numpy(float), FLOOR))))

    def __call__(self, genes: Genes) -> np.ndarray:
        hs = self.code.space.hyperspace
        resolution = np.asarray(hs.resolutions)[genes[:, RESOLUTION]]
        cin = np.asarray(hs.stem.widths)[genes[:, STEM_WIDTH]]
        total = np.zeros(len(genes))
        for here in self.code.stages:
            blocks = _values(here, genes)
            if here in self._searched:
                mean, scale, weights = self._weights[self._searched.index(here)]
                total += np.exp(_standard(_features(resolution, cin, blocks), mean, scale) @ weights)
            cin = blocks[np.arange(len(genes)), here.depths(genes) - 1, 1]
        return total


def _values(here: StageGenes, genes: Genes) -> np.ndarray:
    """Kernel, width and expand of every block, 0 where there is none: ``[N, blocks, 3]``."""
    block, chosen = here.stage.block, here.block_genes(genes)
    choices = (block.kernels, here.stage.widths, [expand or 0 for expand in block.expands])
    values = np.stack([np.asarray(c, float)[chosen[:, :, i]] for i, c in enumerate(choices)], 2)
    return values * here.alive(genes)[:, :, None]


def _of_rows(rows: pd.DataFrame) -> np.ndarray:
    stages = [[(b.kernel, b.width, b.expand or 0) for b in parse_stage(text)] for text in rows.config]
    blocks = np.zeros((len(stages), max(map(len, stages)), 3))
    for values, stage in zip(blocks, stages, strict=True):
        values[: len(stage)] = stage
    return _features(rows.resolution.to_numpy(), rows.cin.to_numpy(), blocks)


def _features(resolution: np.ndarray, cin: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """``[N, features]`` of sub-stages given as ``[N, blocks, 3]``."""
    kernel, width, expand = np.moveaxis(blocks, 2, 0)
    alive = kernel > 0
    depth = alive.sum(1)

    def mean(values: np.ndarray) -> np.ndarray:
        return (values * alive).sum(1) / depth

    log_width = np.log(np.where(alive, width, 1))
    last = log_width[np.arange(len(blocks)), depth - 1]
    narrow = np.where(alive, log_width, np.inf).min(1)
    first = np.stack([kernel[:, 0], expand[:, 0]], 1)
    return np.column_stack(
        [np.log(resolution), np.log(cin), depth, 1 / depth, mean(log_width), narrow, last, mean(kernel), mean(expand), first]
    )


def _fit(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale of the features, and the weights of the standardized ones with a constant."""
    mean, scale = features.mean(0), features.std(0)
    scale[scale < 1e-9] = 1.0
    x = _standard(features, mean, scale)
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    penalty[-1, -1] = 0.0
    return mean, scale, np.linalg.solve(x.T @ x + penalty, x.T @ target)


def _standard(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardized, and bounded to three deviations so that no prediction runs away; a last column of ones."""
    return np.column_stack([np.clip((features - mean) / scale, -3, 3), np.ones(len(features))])
