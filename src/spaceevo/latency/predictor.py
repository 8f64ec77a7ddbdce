"""A latency predictor that adds up ops: non-negative least squares on what an op has to move and to multiply.

Blocks and whole subnets are fitted together. A model's predicted ms is a fixed cost of the call, a cost an element of
its input and output (layout and type conversion at the borders), and the sum over its ops, each kind of op with its own
coefficients on the features below. All coefficients are at least 0, so a larger op never costs less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.latency.sampling import graph_of
from spaceevo.space import Graph, Hyperspace, Op

if TYPE_CHECKING:
    import pandas as pd

LANES = 16  # channels a vector register holds
Features = dict[str, float]


def op_features(op: Op) -> Features:
    """Named amounts of one op; the coefficients (ms each) are learned."""
    pixels_in, pixels_out = op.in_hw**2, op.out_hw**2
    elements_in, elements_out = op.cin * pixels_in, op.cout * pixels_out
    kind = op.kind
    if kind == "conv":
        kind = ("gate" if op.in_hw == 1 else "pointwise") if op.kernel == 1 else f"conv{op.kernel}"
    elif kind == "depthwise":
        kind = f"depthwise{op.kernel}"
    found = {"call": 1.0, "out": elements_out, "in": elements_in}
    if op.has_weight:
        padded = -(-op.cout // LANES) * LANES
        fan_in = op.weight_shape[1] * op.kernel**2
        found |= {"macs": op.macs, "padded": pixels_out * padded * fan_in, "weights": op.cout * fan_in}
        found |= {"patches": pixels_out * op.cin * op.kernel**2, "pixels": pixels_out}
        if op.stride > 1:
            found |= {"strided": 1.0, "strided_in": elements_in}
    return {f"{kind}.{name}": float(amount) for name, amount in found.items()}


def border_features(graph: Graph) -> Features:
    """The call itself and the conversion of input and output."""
    x, y = graph.input, graph.output
    spatial = float(y.channels * y.hw**2) if y.hw > 1 else 0.0
    return {"run": 1.0, "run.input": float(x.channels * x.hw**2), "run.output": spatial}


@dataclass
class Predictor:
    """Coefficients (ms an amount) per precision: ``int8``, and ``fp32`` where that was measured."""

    coefficients: dict[str, dict[str, float]]
    _cache: dict[tuple[str, Op], float] = field(default_factory=dict, repr=False)

    def op_ms(self, op: Op, precision: str = "int8") -> float:
        """Predicted ms of one op; what is not known of it counts 0."""
        key = (precision, op)
        if key not in self._cache:
            known = self.coefficients[precision]
            self._cache[key] = sum(known.get(name, 0.0) * amount for name, amount in op_features(op).items())
        return self._cache[key]

    def ops_ms(self, graph: Graph, precision: str = "int8") -> list[float]:
        """Milliseconds of each op of ``graph``: the additive part, of which sub-stages are made."""
        return [self.op_ms(op, precision) for op in graph.ops]

    def graph_ms(self, graph: Graph, precision: str = "int8") -> float:
        """Milliseconds of the whole model."""
        known = self.coefficients[precision]
        border = sum(known.get(name, 0.0) * amount for name, amount in border_features(graph).items())
        return border + sum(self.ops_ms(graph, precision))

    def unknown(self, graph: Graph) -> list[str]:
        """Kinds of ops in ``graph`` that nothing was learned of: they count 0 ms."""
        known = {name.split(".")[0] for name in self.coefficients["int8"]}
        return sorted({next(iter(op_features(op))).split(".")[0] for op in graph.ops} - known)

    def save(self, path: Path, **more: Any) -> None:
        """``more``: what else the file tells of itself."""
        write_json(path, {"unit": "ms", **more, "coefficients": self.coefficients})

    @staticmethod
    def load(path: Path) -> Predictor:
        """Raises:
        UserError: the file is not a predictor's.
        """
        try:
            coefficients = json.loads(path.read_text())["coefficients"]
            found = {p: {name: float(ms) for name, ms in coefficients[p].items()} for p in coefficients}
            return Predictor({"int8": found.pop("int8"), **found})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a latency predictor ({type(error).__name__}); make it anew") from None


def fit(frame: pd.DataFrame, hs: Hyperspace) -> Predictor:
    """Fit to the rows of ``kernels.parquet``, relative errors weighing alike; whole subnets weigh as much as blocks."""
    from scipy.optimize import nnls

    coefficients = {}
    for precision, rows in frame.groupby("precision"):
        graphs = [graph_of(kind, spec, hs) for kind, spec in zip(rows.kind, rows.spec, strict=True)]
        names, matrix = _matrix(graphs)
        ms = rows.ms.to_numpy()
        subnets = (rows.kind == "subnet").to_numpy()
        weight = np.where(subnets, SUBNET_WEIGHT, 1.0) / ms
        scale = matrix.max(0)
        solution, _ = nnls(matrix / scale * weight[:, None], ms * weight, maxiter=100 * len(names))
        coefficients[str(precision)] = dict(zip(names, (solution / scale).tolist(), strict=True))
    return Predictor(coefficients)


SUBNET_WEIGHT = 3.0


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


def held_out_scores(frame: pd.DataFrame, hs: Hyperspace, fraction: float, seed: int) -> dict[str, Any]:
    """INT8 scores on a ``fraction`` of the measured subnets that a first fit does not see: percent within 5 and 10 %,
    the median absolute error in percent, and how far above its prediction a subnet measures (95 % quantile)."""
    subnets = frame[frame.kind == "subnet"].name.unique()
    held = set(np.random.default_rng(seed).permutation(subnets)[: max(1, round(fraction * len(subnets)))])
    predictor = fit(frame[~frame.name.isin(held)], hs)
    rows = frame[frame.name.isin(held) & (frame.precision == "int8")]
    predicted = np.array(
        [predictor.graph_ms(graph_of(kind, spec, hs)) for kind, spec in zip(rows.kind, rows.spec, strict=True)]
    )
    error = predicted / rows.ms.to_numpy() - 1
    return dict(
        n=len(rows),
        within_5pct=float((np.abs(error) <= 0.05).mean() * 100),
        within_10pct=float((np.abs(error) <= 0.1).mean() * 100),
        median_error_pct=float(np.median(np.abs(error)) * 100),
        above_q95=float(np.quantile(1 / (1 + error), 0.95)),
    )
