"""The latency of any block, had back from a table of whole sub-stages.

The published latencies are sums over blocks, and those of ``mobilew`` also sums over the ops of our graphs. So: what the rows
say of every op by least squares (ops that no row has: trees over the ops); then what they say of every block, by the least
departure from its ops' sum. How blocks depart from that is learned by trees too, for blocks that no row has, and the blocks
are settled once more about what these expect. All errors and departures are relative ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.table import Rows, Table
from spaceevo.space import BlockConfig, ElasticStage, Hyperspace, Op, Subnet, stage_graph, stage_input_hw
from spaceevo.space.graph import FUSED

#: What a block's latency depends on.
BLOCK = ("type", "hw", "cin", "kernel", "width", "expand", "stride")
OP = ("kind", "cin", "cout", "in_hw", "out_hw", "kernel", "stride", "act")
OP_KINDS, ACTS = ("conv", "depthwise", "mean", "maxpool", "mul", "add", "hswish", "swish"), ("", *FUSED)
Ops = dict[tuple[Any, ...], int]
OP_DAMP, BLOCK_DAMP, ITERATIONS = 1e-4, 1e-6, 3000  # of least squares
TREES = 300
AGAIN = 3  # times that blocks are settled once more about what they were settled at: a few took many times what was expected
OFTEN = 20  # rows that an op or a block is in, beyond which the trees trust it no more
LEAST = 1e-3  # of what is expected, that the rows' least squares may say of an op or a block


@dataclass
class BlockLatency:
    """``ms(blocks)`` of blocks as rows of ``BLOCK`` (expand 0: none). ``known``: of the blocks that rows have; ``ops``: of ops;
    ``op_trees`` and ``trees``: of others. ``residual``: the largest, in ms, over the rows that it was fitted to."""

    hyperspace: Hyperspace
    known: dict[tuple[int, ...], float]
    ops: dict[tuple[Any, ...], float]
    op_trees: Any
    trees: Any
    residual: float

    def ms(self, blocks: np.ndarray) -> np.ndarray:
        """Of each of ``[blocks, 7]``."""
        blocks = np.atleast_2d(blocks)
        found = np.array([self.known.get(key, np.nan) for key in map(tuple, scaled(blocks).tolist())])
        unseen = np.flatnonzero(np.isnan(found))
        if len(unseen):
            matrix, ops = _ops_of(self.hyperspace, blocks[unseen])
            guessed = np.exp(self.op_trees.predict(_op_sizes(list(ops))))
            each = np.array([self.ops.get(op, guess) for op, guess in zip(ops, guessed, strict=True)])
            found[unseen] = _expected(self.trees, blocks[unseen], matrix @ each)
        return found

    def rows_ms(self, rows: Rows) -> np.ndarray:
        """Of each of a table's ``rows``."""
        row, blocks = _block_table(self.hyperspace, rows)
        return np.bincount(row, self.ms(blocks), len(rows))

    def stage_ms(self, subnet: Subnet) -> float:
        """Of a subnet's searched stages; stem, stage 0 and head are not in the tables."""
        parts = [_blocks_of(self.hyperspace, *stage) for stage in stages_of(subnet)]
        return float(self.ms(np.concatenate(parts)).sum())


def recover_blocks(table: Table, rows: np.ndarray | None = None, seed: int = 0) -> BlockLatency:
    """The table's block latencies, from all of its rows or those with the indices ``rows``.

    Raises:
        UserError: a table without configurations.
    """
    from scipy.sparse import csr_array, diags_array

    source, hs = rows_of(table), table.hyperspace
    row, blocks = _block_table(hs, source)
    target = source.ms
    if rows is not None:
        place = np.full(len(source), -1)
        place[rows] = np.arange(len(rows))
        used = place[row] >= 0
        row, blocks, target = place[row[used]], blocks[used], target[rows]
    keys, first, column = np.unique(scaled(blocks), axis=0, return_index=True, return_inverse=True)
    blocks = blocks[first]
    counts = csr_array((np.ones(len(row)), (row, column.reshape(-1))), (len(target), len(keys)))
    sums = diags_array(1 / target) @ counts
    matrix, ops = _ops_of(hs, blocks)
    by_op = sums @ matrix
    each = _settled(by_op, _rough(by_op, list(ops)), OP_DAMP)
    op_trees = _trees(seed).fit(_op_sizes(list(ops)), np.log(each), sample_weight=_often(by_op))
    total = matrix @ each
    ms = _settled(sums, total, BLOCK_DAMP)
    trees = _trees(seed).fit(_sizes(blocks, total), np.log(ms / total), sample_weight=_often(sums))
    ms = _settled(sums, _expected(trees, blocks, total), BLOCK_DAMP)
    for _ in range(AGAIN):
        ms = _settled(sums, ms, BLOCK_DAMP)
    residual = float(np.abs(counts @ ms - target).max())
    known = dict(zip(map(tuple, keys.tolist()), ms.tolist(), strict=True))
    return BlockLatency(hs, known, dict(zip(ops, map(float, each), strict=True)), op_trees, trees, residual)


def _settled(sums: Any, expected: np.ndarray, damp: float) -> np.ndarray:
    """What adds up to 1 in each row of ``sums``, each part as little off what is ``expected`` of it as can be."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import lsmr

    off = lsmr(sums @ diags_array(expected), 1 - sums @ expected, damp=damp, atol=1e-10, btol=1e-10, maxiter=ITERATIONS)[0]
    return expected * np.maximum(1 + off, LEAST)


def _rough(by_op: Any, ops: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """Of each op: a start, and an amount a multiply-add and an element, of its kind and kernel; none below 0."""
    kinds = sorted({(op[0], op[5]) for op in ops})
    amounts = np.zeros((len(ops), 3 * len(kinds)))
    for i, (kind, cin, cout, in_hw, out_hw, kernel, _, _) in enumerate(ops):
        at, fan_in = 3 * kinds.index((kind, kernel)), 1 if kind == "depthwise" else cin
        amounts[i, at : at + 3] = 1, out_hw**2 * cout * fan_in * kernel**2, cin * in_hw**2 + cout * out_hw**2
    rough = amounts @ least_relative(by_op @ amounts)
    return np.maximum(rough, rough[rough > 0].min())


def least_relative(amounts: np.ndarray) -> np.ndarray:
    """Coefficients, none below 0, by which each row of ``amounts`` adds up to about 1, by least squares: amounts over what they
    are to add up to, so that errors count relative to it. On the normal equations, whose size is the columns'."""
    from scipy.optimize import nnls

    scale = amounts.max(0)
    weighted = amounts / scale
    gram = weighted.T @ weighted
    root = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(len(gram)))
    solution, _ = nnls(root.T, np.linalg.solve(root, weighted.sum(0)), maxiter=100 * len(gram))
    return solution / scale


def _often(sums: Any) -> np.ndarray:
    return np.minimum((sums > 0).sum(0), OFTEN)


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=TREES, max_leaf_nodes=63, learning_rate=0.1, categorical_features=[0], random_state=seed
    )


def _ops_of(hs: Hyperspace, blocks: np.ndarray) -> tuple[Any, Ops]:
    """How often each block ``[blocks, 7]`` has each op, and the ops as ``OP``."""
    from scipy.sparse import csr_array

    ops: Ops = {}
    owners, columns = [], []
    forced = hs.stages[0].forced_residual
    for i, (kind, hw, cin, kernel, width, expand, stride) in enumerate(blocks.tolist()):
        stage = ElasticStage("stage", hs.blocks[int(kind)], (int(width),), (1,), int(stride), forced)
        config = BlockConfig(int(kernel), int(width), expand or None)
        for op in stage_graph(stage, (config,), int(cin), int(hw)).ops:
            columns.append(ops.setdefault(_key_of(op), len(ops)))
            owners.append(i)
    return csr_array((np.ones(len(owners)), (owners, columns)), (len(blocks), len(ops))), ops


def _key_of(op: Op) -> tuple[Any, ...]:
    """``OP`` of an op: what its latency depends on."""
    return op.kind, op.cin, op.cout, op.in_hw, op.out_hw, op.kernel, op.stride, op.act or ""


def _op_sizes(ops: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """What the trees see of ops."""
    numbers = np.array([(OP_KINDS.index(op[0]) + len(OP_KINDS) * ACTS.index(op[7]), *op[1:7]) for op in ops], float)
    _, cin, cout, in_hw, out_hw, kernel, _ = numbers.T
    fan_in = np.where([op[0] == "depthwise" for op in ops], 1, cin)
    work = (in_hw**2 * cin, out_hw**2 * cout, out_hw**2 * cout * fan_in * kernel**2, cout * fan_in * kernel**2)
    return np.column_stack([numbers, *map(np.log, work)])


def rows_of(table: Table) -> Rows:
    """Raises:
    UserError: the table has no configurations.
    """
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


def stages_of(subnet: Subnet) -> Any:
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


def scaled(blocks: np.ndarray) -> np.ndarray:
    """``BLOCK`` rows as whole numbers, expand ratios in hundredths: what they are looked up by."""
    return np.rint(blocks * [1, 1, 1, 1, 1, 100, 1]).astype(np.int64)


def _sizes(blocks: np.ndarray, total: np.ndarray) -> np.ndarray:
    """What the trees see of a block: itself, its ops' sum, and roughly how much it moves and multiplies."""
    _, hw, cin, kernel, width, expand, stride = blocks.T
    out = -(-hw // stride)
    hidden, outer = cin * np.maximum(expand, 1), width * np.maximum(expand, 1)
    work = [
        total,
        hw**2 * cin * hidden,
        out**2 * hidden * width,
        out**2 * hidden * kernel**2,
        out**2 * outer**2 * kernel**2,
        out**2 * cin * width,
    ]
    return np.column_stack([blocks, *map(np.log, work)])


def _expected(trees: Any, blocks: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The ms of blocks whose ops' sum is ``total``."""
    return total * np.exp(trees.predict(_sizes(blocks, total)))
