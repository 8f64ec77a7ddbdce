"""Predictors of devices that are not here, fitted to the authors' published tables of sub-stage latencies.

The tables' latencies are sums over blocks, so each block's is had back (``evolution/block_latency.py``). Stem, stage 0 and
head, which the tables do not have, are of the model of ops of a measured device (``predictor.py``), fitted to the tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution import Table, load_table, recover_blocks
from spaceevo.evolution.block_latency import least_relative
from spaceevo.latency.blocks import table_of
from spaceevo.latency.config import SHIPPED
from spaceevo.latency.predictor import Predictor, op_features
from spaceevo.latency.scores import nine_of_ten, scores_of
from spaceevo.latency.table1 import ends_interval
from spaceevo.paths import PACKAGE
from spaceevo.space import Hyperspace
from spaceevo.space.blocks import BLOCK_TYPES, BlockSpec
from spaceevo.space.graph import GraphBuilder

FITTED = PACKAGE / "latency" / "fitted"
HELD_OUT = 0.1


def fit_published(folder: Path, hs: Hyperspace, seed: int) -> tuple[Predictor, dict[str, Any]]:
    """The predictor fitted to all rows of ``folder``, and how a fit to nine tenths of them does on the rest.

    Raises:
        UserError: the folder does not hold the tables of ``hs``.
    """
    table = load_table(folder, hs, hs.device)
    names, features = row_features(table)
    assert table.rows is not None
    ms = table.rows.ms
    held = np.random.default_rng(seed).random(len(ms)) < HELD_OUT
    ratio = recover_blocks(table, np.flatnonzero(~held), seed).rows_ms(table.rows)[held] / ms[held]
    error = np.abs(ratio - 1)
    scores = scores_of(error)
    scores |= dict(within_1pct=float((error <= 0.01).mean() * 100), worst_pct=float(error.max() * 100))
    coefficients = dict(zip(names, least_relative(features / ms[:, None]).tolist(), strict=True))
    blocks = table_of(recover_blocks(table, seed=seed))
    predictor = Predictor({"int8": coefficients}, blocks, blocks_interval=nine_of_ten(1 / ratio))
    predictor.ends_interval = ends_interval(predictor, hs.name)
    return predictor, scores


def row_features(table: Table) -> tuple[list[str], np.ndarray]:
    """Names and summed amounts ``[rows, features]`` of every row's ops: each distinct block is built once."""
    from scipy.sparse import csr_matrix

    rows, hs = table.rows, table.hyperspace
    if rows is None:
        raise UserError("the table's rows have no configurations to fit a predictor to")
    strides = np.array([stage.stride for stage in hs.stages])
    stage, kind = rows.key[:, 0], rows.key[:, 1]
    cin, hw = rows.cin.copy(), rows.hw.copy()
    parts, owners = [], []
    for depth in range(rows.blocks.shape[1]):
        here = rows.blocks[:, depth, 0] > 0
        stride = strides[stage] if depth == 0 else np.ones_like(stage)
        block = np.column_stack([stage, kind, cin, hw, stride, rows.blocks[:, depth]])
        parts.append(block[here])
        owners.append(np.flatnonzero(here))
        cin, hw = np.where(here, rows.blocks[:, depth, 1], cin).astype(int), -(-hw // stride)
    keys, which = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    each = [_block_features(hs, key) for key in keys]
    names = sorted({name for found in each for name, amount in found.items() if amount})
    dense = np.array([[found.get(name, 0.0) for name in names] for found in each])
    owner = np.concatenate(owners)
    counts = csr_matrix((np.ones(len(owner)), (owner, which.reshape(-1))), (len(rows), len(keys)))
    return names, counts @ dense


def _block_features(hs: Hyperspace, key: np.ndarray) -> dict[str, float]:
    stage, kind, cin, hw, stride, kernel, width = map(int, key[:7])
    expand = None if np.isnan(key[7]) else float(key[7])
    choice = hs.blocks[kind]
    g = GraphBuilder(cin, hw)
    forced = hs.stages[stage].forced_residual
    BLOCK_TYPES[choice.type](g, g.x, BlockSpec(kernel, width, expand, stride, choice.act, forced))
    total: dict[str, float] = {}
    for op in g.graph.ops:
        for name, amount in op_features(op).items():
            total[name] = total.get(name, 0.0) + amount
    return total


def given(setting: str, device: str, hs: Hyperspace, seed: int) -> tuple[Predictor, dict[str, Any]]:
    """The predictor that ``device.predictor`` names, and its scores: ``shipped`` with the package, a JSON file, or a folder
    of published tables to fit it to.

    Raises:
        UserError: there is none.
    """
    if setting != SHIPPED and Path(setting).is_dir():
        return fit_published(Path(setting), hs, seed)
    path = Path(setting)
    if setting == SHIPPED:
        path = FITTED / f"{device}.json"
        if not path.is_file():
            raise UserError(
                f"device.predictor={SHIPPED}: none comes with the package for device={device}; there are: {_shipped()}"
            )
    return Predictor.load(path), json.loads(path.read_text()).get("scores", {})


def predictor_of(device: str) -> Predictor:
    """The predictor that comes with the package for ``device``, or of the file of that path.

    Raises:
        UserError: there is none.
    """
    shipped = FITTED / f"{device}.json"
    if not shipped.is_file() and not Path(device).is_file():
        raise UserError(f"{device}: neither a device that a predictor comes with the package for ({_shipped()}) nor a file")
    return Predictor.load(shipped if shipped.is_file() else Path(device))


def _shipped() -> str:
    return ", ".join(sorted(path.stem for path in FITTED.glob("*.json")))
