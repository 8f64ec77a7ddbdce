"""A known device's predictor moved to another device by a few models measured there.

With few measurements few numbers can be learned: what all ops are multiplied by, and what a call costs beside them. (HELP,
MAPLE and HiFi-LLP move learned predictors by 10 to 3 samples.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.errors import UserError, first_line
from spaceevo.latency.predictor import Predictor
from spaceevo.latency.scores import nine_of_ten, scores_of
from spaceevo.space import Hyperspace, SearchSpace, Subnet

LEAST = 5  # distinct models, of which each is left out once
Rows = list[tuple[Subnet, float]]


def read_rows(path: Path, hs: Hyperspace) -> Rows:
    """Measured subnets of ``hs`` with their INT8 ms: a CSV or Parquet file with columns ``subnet`` (``<space>:<encoding>``) and
    ``ms``, or a profile's ``kernels.parquet``.

    Raises:
        UserError: which row is broken, and in what; too few different subnets.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"adapt={path}: not a CSV or Parquet file that can be read ({first_line(error)})") from None
    if {"kind", "spec", "precision"} <= set(frame):
        frame = frame[(frame.kind == "subnet") & (frame.precision == "int8")].rename(columns={"spec": "subnet"})
    missing = sorted({"subnet", "ms"} - set(frame))
    if missing:
        raise UserError(f"adapt={path}: has no column {', '.join(missing)}; it needs subnet (<space>:<encoding>) and ms")
    rows = [_row(path, hs, i, subnet, ms) for i, subnet, ms in zip(frame.index, frame.subnet, frame.ms, strict=True)]
    different = len({str(subnet) for subnet, _ in rows})
    if different < LEAST:
        raise UserError(f"adapt={path}: {different} different subnets; it takes {LEAST} or more, and 10 are better")
    return rows


def _row(path: Path, hs: Hyperspace, i: int, subnet: Any, ms: Any) -> tuple[Subnet, float]:
    where = f"adapt={path}: row {i + 1}"
    try:
        time = float(ms)
    except (TypeError, ValueError):
        time = float("nan")
    if not (np.isfinite(time) and time > 0):
        raise UserError(f"{where}: ms={ms}: must be a number more than 0")
    space, _, net = str(subnet).partition(":")
    try:
        return Subnet.parse(SearchSpace.parse(space, hs), net), time
    except UserError as error:
        raise UserError(f"{where}: subnet: {error}") from None


def adapted(base: Predictor, rows: Rows) -> tuple[Predictor, dict[str, Any]]:
    """``base`` moved to the device that ``rows`` were measured on, and how well: of each row predicted by what the others
    teach, ``median_error_pct``, ``within_5pct`` and ``within_10pct``; its interval is what nine of ten of them keep."""
    predicted, ms = base.subnets_ms([subnet for subnet, _ in rows]), np.array([ms for _, ms in rows])
    left_out = {way: _left_out(WAYS[way], predicted, ms) for way in WAYS}
    best = min(WAYS, key=lambda way: float(np.abs(left_out[way] / ms - 1).mean()))
    factor, call_ms = WAYS[best](predicted, ms)
    scores = scores_of(left_out[best] / ms - 1) | dict(factor=factor, call_ms=call_ms)
    return replace(base.moved(factor, call_ms), interval=nine_of_ten(ms / left_out[best])), scores


def _factor(predicted: np.ndarray, ms: np.ndarray) -> tuple[float, float]:
    """What ``predicted`` is multiplied by, relative errors weighing alike."""
    ratio = predicted / ms
    return float(ratio.sum() / (ratio**2).sum()), 0.0


def _factor_and_call(predicted: np.ndarray, ms: np.ndarray) -> tuple[float, float]:
    """That, and ms of a call beside it; neither is below 0."""
    from scipy.optimize import nnls

    (factor, call_ms), _ = nnls(np.stack([predicted / ms, 1 / ms], 1), np.ones(len(ms)))
    return float(factor), float(call_ms)


Way = Callable[[np.ndarray, np.ndarray], tuple[float, float]]
WAYS: dict[str, Way] = {"factor": _factor, "factor and call": _factor_and_call}


def _left_out(way: Way, predicted: np.ndarray, ms: np.ndarray) -> np.ndarray:
    """Each row as ``way`` predicts it from all others."""
    found = np.empty(len(ms))
    for i in range(len(ms)):
        others = np.arange(len(ms)) != i
        factor, call_ms = way(predicted[others], ms[others])
        found[i] = factor * predicted[i] + call_ms
    return found
