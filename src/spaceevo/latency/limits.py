"""Latency limits in ms, and the latency that every subnet of a hyperspace has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from spaceevo.evolution import GeneCode, Table
from spaceevo.latency.predictor import Predictor
from spaceevo.space import Hyperspace, SearchSpace, Subnet

DRAWS, TABLE_DRAWS = 400, 4000
HEADROOM = 0.95  # of a limit that predicted latencies keep: the rest is for the predictor's errors


class Limits(Protocol):
    """What ``conf/latency`` says."""

    @property
    def limits_ms(self) -> Sequence[float] | None: ...

    @property
    def quantiles(self) -> Sequence[float] | None: ...


def resolve_limits(latency: Limits, predictor: Predictor, hs: Hyperspace, seed: int) -> list[float]:
    """``limits_ms`` as given, else the ``quantiles`` of the predicted ms of random subnets of random search spaces."""
    if latency.limits_ms is not None:
        return [float(limit) for limit in latency.limits_ms]
    rng = np.random.default_rng([seed, 0x1A7])
    ms = [predictor.subnet_ms(Subnet.sample(SearchSpace.sample(hs, rng), rng)) for _ in range(DRAWS)]
    return limits_at(latency.quantiles or (), ms)


def fastest_ms(predictor: Predictor, space: SearchSpace, enough: float = 0.0) -> float:
    """The predicted ms of the fastest subnet of ``space``, or of one that takes ``enough`` at most."""
    smallest = predictor.subnet_ms(Subnet.smallest(space, min(space.hyperspace.resolutions)))
    if smallest <= enough:
        return smallest
    predicted_ms = predictor.costs(GeneCode(space))
    return float(predicted_ms(predicted_ms.cheapest())[0])


def limits_of_table(latency: Limits, table: Table, seed: int) -> list[float]:
    """``limits_ms`` as given, else the ``quantiles`` of the ms of random subnets of random search spaces of ``table``."""
    if latency.limits_ms is not None:
        return [float(limit) for limit in latency.limits_ms]
    rng = np.random.default_rng([seed, 0x1A7])
    ms = []
    for resolution in rng.choice(table.resolutions, TABLE_DRAWS):
        total = table.fixed_ms[int(resolution)]
        for stage, spec in enumerate(table.hyperspace.stages):
            rows = table.ms[stage, int(rng.choice(spec.types)), int(rng.integers(spec.windows)), int(resolution)]
            total += float(rows[rng.integers(len(rows))])
        ms.append(total)
    return limits_at(latency.quantiles or (), ms)


def limits_at(quantiles: Sequence[float], ms: Sequence[float]) -> list[float]:
    """To four decimals; those of quantiles that are as good as one are one."""
    return sorted({round(float(q), 4) for q in np.quantile(ms, sorted(quantiles))})
