"""The predictor fitted to a profile: non-negative least squares over blocks and whole subnets together; and how good it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.latency.domain import domain_of
from spaceevo.latency.predictor import Predictor, border_features, op_features
from spaceevo.latency.sampling import graph_of
from spaceevo.latency.scores import nine_of_ten, scores_of
from spaceevo.space import Graph, Hyperspace

if TYPE_CHECKING:
    import pandas as pd

SUBNET_WEIGHT = 3.0
FOLDS = 5  # of which each is predicted by a fit to the others


def fit(frame: pd.DataFrame, hs: Hyperspace) -> Predictor:
    """Fit to the rows of ``kernels.parquet``, relative errors weighing alike; whole subnets weigh as much as blocks."""
    from scipy.optimize import nnls

    coefficients, domain = {}, None
    for precision, rows in frame.groupby("precision"):
        graphs = [graph_of(kind, spec, hs) for kind, spec in zip(rows.kind, rows.spec, strict=True)]
        domain = domain or domain_of(graphs)  # both precisions are of the same models
        names, matrix = _matrix(graphs)
        ms = rows.ms.to_numpy()
        subnets = (rows.kind == "subnet").to_numpy()
        weight = np.where(subnets, SUBNET_WEIGHT, 1.0) / ms
        scale = matrix.max(0)
        solution, _ = nnls(matrix / scale * weight[:, None], ms * weight, maxiter=100 * len(names))
        coefficients[str(precision)] = dict(zip(names, (solution / scale).tolist(), strict=True))
    return Predictor(coefficients, domain=domain)


def _matrix(graphs: Iterable[Graph]) -> tuple[list[str], np.ndarray]:
    rows = []
    for graph in graphs:
        total = border_features(graph)
        for op in graph.ops:
            for name, amount in op_features(op).items():
                total[name] = total.get(name, 0.0) + amount
        rows.append(total)
    names = sorted({name for row in rows for name, amount in row.items() if amount})
    return names, np.array([[row.get(name, 0.0) for name in names] for row in rows])


def interval_of(frame: pd.DataFrame, hs: Hyperspace, seed: int) -> tuple[float, float]:
    """Measured over predicted INT8 ms of the measured subnets, each predicted by a fit that did not see it: what all but one in
    twenty reach, and what all but one in twenty do not exceed."""
    subnets = np.random.default_rng(seed).permutation(frame[frame.kind == "subnet"].name.unique())
    ratios: list[float] = []
    for held in np.array_split(subnets, min(FOLDS, len(subnets))):
        predictor = fit(frame[~frame.name.isin(held)], hs)
        rows = frame[frame.name.isin(held) & (frame.precision == "int8")]
        ratios += (rows.ms.to_numpy() / _of_rows(predictor, rows, hs)).tolist()
    return nine_of_ten(ratios)


def held_out_scores(frame: pd.DataFrame, hs: Hyperspace, fraction: float, seed: int) -> dict[str, Any]:
    """INT8 scores on a ``fraction`` of the measured subnets that a first fit does not see: percent within 5 and 10 %,
    the median absolute error in percent, and how far above its prediction a subnet measures (95 % quantile)."""
    subnets = frame[frame.kind == "subnet"].name.unique()
    held = set(np.random.default_rng(seed).permutation(subnets)[: max(1, round(fraction * len(subnets)))])
    predictor = fit(frame[~frame.name.isin(held)], hs)
    rows = frame[frame.name.isin(held) & (frame.precision == "int8")]
    error = _of_rows(predictor, rows, hs) / rows.ms.to_numpy() - 1
    return scores_of(error) | dict(above_q95=float(np.quantile(1 / (1 + error), 0.95)))


def _of_rows(predictor: Predictor, rows: pd.DataFrame, hs: Hyperspace) -> np.ndarray:
    """Predicted INT8 ms of each row of ``kernels.parquet``."""
    return np.array([predictor.graph_ms(graph_of(kind, spec, hs)) for kind, spec in zip(rows.kind, rows.spec, strict=True)])
