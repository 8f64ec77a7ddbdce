"""The paper's models beside what a predictor says of them, and what their printed latencies tell of it.

The published tables have the searched stages alone. How well stem, stage 0 and head are estimated shows in what Table 1
prints for whole models: all that a printed latency and a predicted one differ by is laid on those ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spaceevo.latency.parts import Part, by_stage, whole
from spaceevo.latency.predictor import Predictor
from spaceevo.space import PublishedModel, Subnet, published_model, published_models, published_subnet


@dataclass(frozen=True)
class Printed:
    """A model of Table 1: what is printed, and what is predicted. ``other``: the released encoding is another model."""

    name: str
    ms: float
    predicted: Part
    other: bool


def compared(predictor: Predictor, hyperspace: str) -> list[Printed]:
    """The models that Table 1 has of a hyperspace, by printed latency."""
    rows = [
        Printed(model.name, model.paper["int8_ms"], whole(predictor, net), model.is_another(net.cost().mmacs))
        for model, net in _models_of(hyperspace)
    ]
    return sorted(rows, key=lambda row: row.ms)


def in_order(rows: Sequence[Printed]) -> bool:
    """Whether the predicted latencies rise as the printed ones do."""
    return bool(np.all(np.diff([row.predicted.ms for row in sorted(rows, key=lambda row: row.ms)]) > 0))


def ends_interval(predictor: Predictor, hyperspace: str) -> tuple[float, float] | None:
    """What stem, stage 0 and head take at least and at most in nine of ten models, over what is predicted of them: by the
    models of Table 1, of which nothing was fitted (Student's t about 1). None where it has none."""
    from scipy.stats import t

    away = []
    for model, net in _models_of(hyperspace):
        ends = sum(part.ms for part in by_stage(predictor, net) if part.estimated)
        away.append((model.paper["int8_ms"] - predictor.subnet_ms(net)) / ends)
    if not away:
        return None
    half = float(t.ppf(0.95, len(away)) * np.sqrt(np.mean(np.square(away))))
    return max(0.0, 1 - half), 1 + half


def _models_of(hyperspace: str) -> list[tuple[PublishedModel, Subnet]]:
    models = [model for model in map(published_model, published_models()) if model.space.startswith(f"{hyperspace}-")]
    return [(model, published_subnet(model.name)) for model in models]
