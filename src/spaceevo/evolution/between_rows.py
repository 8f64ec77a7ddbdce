"""The NSR of any sub-stage, of a table that has no row of it: one gradient-boosted tree ensemble a block type, for tables of
thousands of rows a type, as the published ones are; it explains more of these than ``smooth.py``'s model, which is for tables
of a few rows a key and sees the same of a sub-stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spaceevo.evolution.block_latency import rows_of, stages_of
from spaceevo.evolution.smooth import features_of
from spaceevo.evolution.table import Table
from spaceevo.space import Hyperspace, Subnet


@dataclass
class NsrTrees:
    """``nsr(...)`` of any sub-stage. ``held_out``: by block type name, over rows that were kept back: the root mean
    square error, the mean absolute error, and the share of the variance that is explained (``r2``)."""

    hyperspace: Hyperspace
    models: dict[int, Any]
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)

    def nsr(self, stage: int, block: int, cin: np.ndarray, hw: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Of sub-stages of one stage (from 0) and type: ``cin``, ``hw`` ``[n]``, ``blocks`` ``[n, deepest, 3]``."""
        return self.models[block].predict(_inputs(np.full(len(cin), stage), cin, hw, blocks))

    def quality(self, subnets: Sequence[Subnet]) -> np.ndarray:
        """The negative sum of the stages' NSR of each: higher is better."""
        total = np.zeros(len(subnets))
        staged = [list(stages_of(subnet)) for subnet in subnets]
        for at in zip(*staged, strict=True):
            for block in {block for _, block, _, _, _ in at}:
                mine = [i for i, entry in enumerate(at) if entry[1] == block]
                deepest = max(len(at[i][4]) for i in mine)
                blocks = np.zeros((len(mine), deepest, 3))
                for row, i in enumerate(mine):
                    blocks[row, : len(at[i][4])] = at[i][4]
                cin, hw = (np.array([at[i][n] for i in mine]) for n in (2, 3))
                total[mine] -= self.nsr(at[0][0], block, cin, hw, blocks)
        return total


def fit_nsr(table: Table, held_out: float = 0.1, seed: int = 0) -> NsrTrees:
    """Fit to all rows; the errors are of a fit to all but a ``held_out`` part.

    Raises:
        UserError: a table without configurations.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    source, hs = rows_of(table), table.hyperspace
    inputs = _inputs(source.key[:, 0], source.cin, source.hw, source.blocks)
    kept_back = np.random.default_rng(seed).random(len(source)) < held_out
    model = NsrTrees(hs, {})
    for block in sorted(set(source.key[:, 1].tolist())):
        mine = source.key[:, 1] == block

        def fitted(rows: np.ndarray) -> Any:
            trees = HistGradientBoostingRegressor(max_iter=400, max_leaf_nodes=31, learning_rate=0.08, random_state=seed)
            return trees.fit(inputs[rows], source.nsr[rows])

        test = mine & kept_back
        error = fitted(mine & ~kept_back).predict(inputs[test]) - source.nsr[test]
        model.held_out[hs.blocks[block].type] = dict(
            rows=float(test.sum()),
            rmse=float(np.sqrt((error**2).mean())),
            mae=float(np.abs(error).mean()),
            r2=float(1 - (error**2).mean() / source.nsr[test].var()),
        )
        model.models[block] = fitted(mine)
    return model


def _inputs(stage: np.ndarray, cin: np.ndarray, hw: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """What the trees see of sub-stages: where they are, and what the smooth model sees of them."""
    return np.column_stack([stage, features_of(hw, cin, blocks)])
