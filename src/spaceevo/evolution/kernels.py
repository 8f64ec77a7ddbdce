"""The inner loops, compiled by numba at their first call and kept in its cache. Imported only where they are called."""

from __future__ import annotations

import numpy as np

from spaceevo.compiled import njit

BLOCK = 1024  # draws added up at once: a block of sums stays in the fastest cache
WITHIN = 1 + 1e-6  # of a limit: float32 sums meet what the same sums in decimals meet exactly
GROUP = 32  # draws looked at together before any of them singly


@njit(nogil=True)
def draw_rows(stage_of, resolution, luck, rows_nsr, rows_ms, first, count, nsr, ms):
    """Fill ``nsr`` and ``ms`` ``[choices, draws]`` with the rows that every draw's luck picks."""
    for c in range(nsr.shape[0]):
        for d in range(nsr.shape[1]):
            r = resolution[d]
            row = first[c, r] + int(luck[stage_of[c], d] * count[c, r])
            nsr[c, d] = rows_nsr[row]
            ms[c, d] = rows_ms[row]


@njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})
def select(chosen, nsr, ms, fixed, limits, top):
    """The ``top`` draws of smallest NSR within each limit, and the fastest draw of all.

    ``chosen``: a choice a stage; ``limits`` rising, float32. A limit's best draws so far are kept sorted; its worst
    kept NSR falls from limit to limit, so that most draws are turned away by one comparison.

    Returns:
        Draws ``[limits, top]``, how many of them there are ``[limits]``, and the fastest draw.
    """
    n, stages, count = nsr.shape[1], len(chosen), len(limits)
    best_nsr = np.full((count, top), np.float32(np.inf), np.float32)
    best = np.empty((count, top), np.int64)
    kept = np.zeros(count, np.int64)
    sum_nsr, sum_ms = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    fastest, fastest_ms = 0, np.float32(np.inf)
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        sum_nsr[size:] = np.inf
        sum_ms[:size] = fixed[begin : begin + size]
        sum_nsr[:size] = 0
        for s in range(stages):
            more_nsr, more_ms = nsr[chosen[s], begin : begin + size], ms[chosen[s], begin : begin + size]
            for d in range(size):
                sum_nsr[d] += more_nsr[d]
                sum_ms[d] += more_ms[d]
        block_ms = sum_ms[:size].min()
        if block_ms < fastest_ms:
            fastest, fastest_ms = begin + sum_ms[:size].argmin(), block_ms
        for group in range(0, size, GROUP):
            able = 0
            for i in range(count):
                worst, limit = best_nsr[i, top - 1], limits[i]
                for d in range(group, group + GROUP):
                    able += (sum_nsr[d] < worst) & (sum_ms[d] <= limit)
            if able == 0:
                continue
            for d in range(group, min(group + GROUP, size)):
                q, t = sum_nsr[d], sum_ms[d]
                for i in range(count - 1, -1, -1):
                    if t > limits[i]:
                        break
                    if q < best_nsr[i, top - 1]:
                        at = top - 1
                        while at > 0 and best_nsr[i, at - 1] > q:
                            best_nsr[i, at], best[i, at] = best_nsr[i, at - 1], best[i, at - 1]
                            at -= 1
                        best_nsr[i, at], best[i, at] = q, begin + d
                        kept[i] = min(kept[i] + 1, top)
    return best, kept, fastest


@njit(nogil=True)
def add_up(chosen, draw, resolution, luck, rows, first, count):
    """The sum of one draw's ``rows`` over the stages, in float64."""
    total, r = 0.0, resolution[draw]
    for s in range(len(chosen)):
        c = chosen[s]
        total += rows[first[c, r] + int(luck[s, draw] * count[c, r])]
    return total


@njit(nogil=True)
def top_means(chosen, nsr, ms, fixed, limits, top, worst, resolution, luck, rows_nsr, rows_ms, first, count):
    """Q(A, T_i) of each limit (rising) ``[limits]``: see ``qt_score``. Draws are selected in float32, added in float64."""
    best, kept, fastest = select(chosen, nsr, ms, fixed, (limits * WITHIN).astype(np.float32), top)
    quality = np.empty(len(limits))
    for i in range(len(limits)):
        total = 0.0
        for j in range(kept[i]):
            total += add_up(chosen, best[i, j], resolution, luck, rows_nsr, first, count)
        if kept[i] > 0:
            quality[i] = -total / kept[i]
        else:
            nearest = fixed[fastest] + add_up(chosen, fastest, resolution, luck, rows_ms, first, count)
            quality[i] = -worst * nearest / limits[i]
    return quality


@njit(nogil=True)
def draw_fitting(resolution, luck, begins, rows_nsr, rows_ms, follows, nsr, ms, after):
    """Fill one slot's draws: rows of a choice and an input width, by resolution from ``begins``."""
    for d in range(len(nsr)):
        r = resolution[d]
        count = begins[r + 1] - begins[r]
        if count == 0:
            nsr[d], ms[d], after[d] = np.inf, np.inf, 0
        else:
            row = begins[r] + int(luck[d] * count)
            nsr[d], ms[d], after[d] = rows_nsr[row], rows_ms[row], follows[row]


@njit(nogil=True)
def chain(slots, nsr, ms, after, fixed):
    """Sums over the stages; a stage's slot is its first, moved on by the width that came before."""
    n = nsr.shape[1]
    sum_nsr, sum_ms, width = np.zeros((1, n), np.float32), fixed.copy().reshape(1, n), np.zeros(n, np.int64)
    for s in range(len(slots)):
        for d in range(n):
            slot = slots[s] + width[d]
            sum_nsr[0, d] += nsr[slot, d]
            sum_ms[0, d] += ms[slot, d]
            width[d] = after[slot, d]
    return sum_nsr, sum_ms


@njit(nogil=True)
def top_means_of_sums(sum_nsr, sum_ms, rising, top, worst):
    """``top_means`` of draws that are already added up ``[1, draws]``, in float32."""
    none = np.zeros(sum_nsr.shape[1], np.float32)
    best, kept, fastest = select(np.zeros(1, np.int64), sum_nsr, sum_ms, none, (rising * WITHIN).astype(np.float32), top)
    quality = np.empty(len(rising))
    for i in range(len(rising)):
        total = 0.0
        for j in range(kept[i]):
            total += sum_nsr[0, best[i, j]]
        quality[i] = -total / kept[i] if kept[i] > 0 else -worst * sum_ms[0, fastest] / rising[i]
    return quality
