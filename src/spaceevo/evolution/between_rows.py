"""What a table says of subnets that it has no rows of: a latency of any block, an NSR of any sub-stage.

``recover_blocks``: the tables' latencies are sums over blocks, so that the ms of every block that occurs can be had
back by sparse least squares. What the sums leave open (blocks that occur only together) is settled by the least
departure from a tree ensemble of the blocks' sizes, which also answers for blocks that never occur.
``fit_nsr``: one gradient-boosted tree ensemble a block type, for tables of thousands of rows a type, as the published ones
are; it explains more of these than ``smooth.py``'s model, which is for tables of a few rows a key and sees the same of a
sub-stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.smooth import features_of
from spaceevo.evolution.table import Rows, Table
from spaceevo.space import Hyperspace, Subnet, stage_input_hw

#: What a block's latency depends on.
BLOCK = ("type", "hw", "cin", "kernel", "width", "expand", "stride")


@dataclass
class BlockLatency:
    """``ms(blocks)`` of blocks as rows of ``BLOCK`` (expand 0: none). ``residual``: the largest, in ms, over the rows
    that it was fitted to."""

    hyperspace: Hyperspace
    known: dict[tuple[int, ...], float]
    prior: Any
    residual: float

    def ms(self, blocks: np.ndarray) -> np.ndarray:
        """Of each of ``[blocks, 7]``."""
        blocks = np.atleast_2d(blocks)
        found = np.array([self.known.get(key, np.nan) for key in map(tuple, _scaled(blocks).tolist())])
        unseen = np.isnan(found)
        if unseen.any():
            found[unseen] = _expected_ms(self.prior, blocks[unseen])
        return found

    def stage_ms(self, subnet: Subnet) -> float:
        """Of a subnet's searched stages; stem, stage 0 and head are not in the tables."""
        parts = [_blocks_of(self.hyperspace, *stage) for stage in _stages(subnet)]
        return float(self.ms(np.concatenate(parts)).sum())


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
        staged = [list(_stages(subnet)) for subnet in subnets]
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


def recover_blocks(table: Table, rows: np.ndarray | None = None, seed: int = 0) -> BlockLatency:
    """The table's block latencies, from all of its rows or those with the indices ``rows``.

    Raises:
        UserError: a table without configurations.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import lsmr
    from sklearn.ensemble import HistGradientBoostingRegressor

    source = _rows(table)
    row, blocks = _block_table(table.hyperspace, source)
    if rows is not None:
        place = np.full(len(source), -1)
        place[rows] = np.arange(len(rows))
        used = place[row] >= 0
        row, blocks, target = place[row[used]], blocks[used], source.ms[rows]
    else:
        target = source.ms
    keys, first, column = np.unique(_scaled(blocks), axis=0, return_index=True, return_inverse=True)
    matrix = csr_matrix((np.ones(len(row)), (row, column.reshape(-1))), (len(target), len(keys)))
    settings = dict(atol=1e-10, btol=1e-10, maxiter=4000)
    rough = lsmr(matrix, target, **settings)[0]
    prior = HistGradientBoostingRegressor(max_iter=300, max_leaf_nodes=63, learning_rate=0.1, random_state=seed)
    prior.fit(_sizes(blocks[first]), np.log(np.maximum(rough, 1e-4)))
    expected = _expected_ms(prior, blocks[first])
    ms = expected + lsmr(matrix, target - matrix @ expected, **settings)[0]
    known = dict(zip(map(tuple, keys.tolist()), map(float, ms), strict=True))
    return BlockLatency(table.hyperspace, known, prior, float(np.abs(matrix @ ms - target).max()))


def fit_nsr(table: Table, held_out: float = 0.1, seed: int = 0) -> NsrTrees:
    """Fit to all rows; the errors are of a fit to all but a ``held_out`` part.

    Raises:
        UserError: a table without configurations.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    source, hs = _rows(table), table.hyperspace
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


def _rows(table: Table) -> Rows:
    if table.rows is None:
        raise UserError("the table has no columns cin, hw and config: nothing can be said of other sub-stages")
    return table.rows


def _block_table(hs: Hyperspace, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Every block of every row: the row's index ``[blocks]``, and the block as ``BLOCK`` ``[blocks, 7]``."""
    strides = np.array([stage.stride for stage in hs.stages])[rows.key[:, 0]]
    parts, owners, cin = [], [], rows.cin.astype(float)
    for j in range(rows.blocks.shape[1]):
        here = np.flatnonzero(rows.depth > j)
        kernel, width, expand = rows.blocks[here, j].T
        hw = rows.hw[here] if j == 0 else -(-rows.hw[here] // strides[here])
        stride = strides[here] if j == 0 else np.ones(len(here))
        parts.append(np.stack([rows.key[here, 1], hw, cin[here], kernel, width, np.nan_to_num(expand), stride], 1))
        owners.append(here)
        cin[here] = width
    return np.concatenate(owners), np.concatenate(parts)


def _stages(subnet: Subnet) -> Any:
    """Of each searched stage: stage (from 0), type, input width, input size, blocks ``[depth, 3]``."""
    space, hs = subnet.space, subnet.space.hyperspace
    searched = subnet.stages[len(subnet.stages) - len(space.types) :]
    before = subnet.stages[: len(subnet.stages) - len(space.types)]
    cin = before[-1][-1].width if before else subnet.stem_width
    for i, (block, hw, stage) in enumerate(zip(space.types, stage_input_hw(hs, subnet.resolution), searched, strict=False)):
        blocks = np.array([(b.kernel, b.width, np.nan if b.expand is None else b.expand) for b in stage], float)
        yield i, block, cin, hw, blocks
        cin = stage[-1].width


def _blocks_of(hs: Hyperspace, stage: int, block: int, cin: int, hw: int, blocks: np.ndarray) -> np.ndarray:
    """A sub-stage's blocks as ``BLOCK`` ``[depth, 7]``."""
    stride, depth = hs.stages[stage].stride, len(blocks)
    sizes = np.r_[hw, np.full(depth - 1, -(-hw // stride))]
    widths, strides = np.r_[cin, blocks[:-1, 1]], np.r_[stride, np.ones(depth - 1)]
    kernel, width, expand = blocks.T
    return np.stack([np.full(depth, block), sizes, widths, kernel, width, np.nan_to_num(expand), strides], 1)


def _scaled(blocks: np.ndarray) -> np.ndarray:
    """``BLOCK`` rows as whole numbers, expand ratios in hundredths: what they are looked up by."""
    return np.rint(blocks * [1, 1, 1, 1, 1, 100, 1]).astype(np.int64)


def _sizes(blocks: np.ndarray) -> np.ndarray:
    """What the prior sees of a block: itself, and roughly how much it moves and multiplies."""
    _, hw, cin, kernel, width, expand, stride = blocks.T
    out = -(-hw // stride)
    hidden, outer = cin * np.maximum(expand, 1), width * np.maximum(expand, 1)
    work = [
        hw**2 * cin * hidden,
        out**2 * hidden * width,
        out**2 * hidden * kernel**2,
        out**2 * outer**2 * kernel**2,
        out**2 * cin * width,
    ]
    return np.column_stack([blocks, *(np.log1p(part) for part in work)])


def _expected_ms(prior: Any, blocks: np.ndarray) -> np.ndarray:
    return np.exp(prior.predict(_sizes(blocks)))


def _inputs(stage: np.ndarray, cin: np.ndarray, hw: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """What the trees see of sub-stages: where they are, and what the smooth model sees of them."""
    return np.column_stack([stage, features_of(hw, cin, blocks)])
