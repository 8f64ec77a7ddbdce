"""Sampled Q-T scores of one space, each with draws of its own: written apart from the engine, to check it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from spaceevo.evolution import Table
from spaceevo.space import SearchSpace

BATCH = 1000


def mean_score(
    table: Table, space: SearchSpace, limits: Sequence[float], draws: int, top: int, error: float, most: int
) -> tuple[float, float, int]:
    """The mean of sampled scores, its relative standard error and their number: in batches, until the error is at most
    ``error`` or there are ``most``."""
    within = np.array(limits, float) * (1 + 1e-6)
    rows, scores = _rows(table, space), np.empty(0)
    while len(scores) < most:
        scores = np.r_[scores, _scores(*rows, within, draws, top, table.worst_nsr(), BATCH, len(scores))]
        uncertain = float(scores.std() / len(scores) ** 0.5 / abs(scores.mean()))
        if uncertain <= error:
            break
    return float(scores.mean()), uncertain, len(scores)


def _rows(table: Table, space: SearchSpace) -> tuple[np.ndarray, ...]:
    """NSR and ms of the space's rows, where those of a stage and resolution begin and how many they are, fixed ms."""
    chosen = [(s, t, w) for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True))]
    keys = [(*choice, r) for choice in chosen for r in table.resolutions]
    count = np.array([len(table.nsr[key]) for key in keys])
    first = np.cumsum(count) - count
    nsr, ms = (np.concatenate([part[key] for key in keys]).astype(float) for part in (table.nsr, table.ms))
    shape = (len(chosen), len(table.resolutions))
    fixed = np.array([table.fixed_ms[r] for r in table.resolutions])
    return nsr, ms, first.reshape(shape).astype(np.uint64), count.reshape(shape).astype(np.uint64), fixed


@njit(cache=True, nogil=True)
def _scores(nsr, ms, first, count, fixed, limits, draws, top, worst, times, seed):
    """``times`` scores ``[times]``. Random numbers are 32 bits of a 64-bit xorshift."""
    x = np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(seed + 1) * np.uint64(0xD1342543DE82EF95))
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    stages, resolutions = first.shape
    scores, best = np.zeros(times), np.empty((len(limits), top))
    for repeat in range(times):
        best[:] = np.inf
        kept, fastest = np.zeros(len(limits), np.int64), np.inf
        for _ in range(draws):
            x ^= x << np.uint64(13)
            x ^= x >> np.uint64(7)
            x ^= x << np.uint64(17)
            r = ((x >> half) * np.uint64(resolutions)) >> half
            q, t = 0.0, fixed[r]
            for s in range(stages):
                x ^= x << np.uint64(13)
                x ^= x >> np.uint64(7)
                x ^= x << np.uint64(17)
                row = first[s, r] + ((((x >> np.uint64(16)) & low) * count[s, r]) >> half)
                q += nsr[row]
                t += ms[row]
            fastest = min(fastest, t)
            for i in range(len(limits) - 1, -1, -1):
                if t > limits[i]:
                    break
                kept[i] = min(kept[i] + 1, top)
                if q < best[i, top - 1]:
                    at = top - 1
                    while at > 0 and best[i, at - 1] > q:
                        best[i, at] = best[i, at - 1]
                        at -= 1
                    best[i, at] = q
        for i in range(len(limits)):
            scores[repeat] -= best[i, : kept[i]].mean() if kept[i] > 0 else worst * fastest / limits[i]
    return scores
