"""Kendall's tau of two measures of the same things, and how far the luck of which things were measured decides it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95  # of the interval


@dataclass(frozen=True)
class Tau:
    """Tau-b of ``count`` things: 1 where two measures order them alike, -1 where one order is the other reversed; ``low``,
    ``high``: its 95 % bootstrap interval. None each where all values of a measure are equal, so that nothing is ordered."""

    count: int
    tau: float | None
    low: float | None
    high: float | None


def kendall(one: np.ndarray, other: np.ndarray, resamples: int, seed: int) -> Tau:
    """Tau of two measures ``[N]``, its interval by the quantiles of ``resamples`` draws of N of the things with replacement.

    A thing that was drawn twice is tied with itself, which tau-b leaves out. Where values are few or tied the quantiles may
    not hold the tau of all things; the interval is then widened to hold it.
    """
    count = len(one)
    if count == 0:
        return Tau(0, None, None, None)
    orders = [np.sign(values[:, None] - values[None, :]) for values in (one, other)]
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    times = np.vstack([np.ones(count), draws])  # how often each thing was drawn, first of all once each
    alike, *untied = (((times @ pairs) * times).sum(1) for pairs in (orders[0] * orders[1], *map(np.abs, orders)))
    both = untied[0] * untied[1]
    taus = np.divide(alike, np.sqrt(both), out=np.full(len(both), np.nan), where=both > 0)
    tau = float(taus[0])
    if np.isnan(tau):
        return Tau(count, None, None, None)
    low, high = np.nanquantile(taus, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Tau(count, tau, min(float(low), tau), max(float(high), tau))
