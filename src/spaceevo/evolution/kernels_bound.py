"""Branch and bound over the draws, compiled by numba. Imported only where it is called."""

from __future__ import annotations

import numpy as np

from spaceevo.compiled import njit
from spaceevo.evolution.kernels import WITHIN, top_means

ROUNDED = 1 + 2e-6  # what the order of a sum may change in float32, and more
TIE = 1e-5  # float32 sums tell scores apart that differ by more


@njit(nogil=True)
def narrow(choice, level, part, m, nsr, ms, rest_nsr, rest_ms, slow_ms, limits, enough, top, narrowed, kept, sure):
    """Add ``choice`` to a node's ``m`` draws; keep those that may matter.

    Returns:
        How many are kept, and the bound on the score of every space below.
    """
    idx, part_nsr, part_ms = part
    new_idx, new_nsr, new_ms = narrowed
    n, count = 0, len(limits)
    for i in range(count):
        sure[i] = 0
        for j in range(top):
            kept[i, j] = enough[i]
    for j in range(m):
        d = idx[j]
        q, t = part_nsr[j] + nsr[choice, d], part_ms[j] + ms[choice, d]
        low, fast = q + rest_nsr[level, d], t + rest_ms[level, d]
        if low >= enough[0] or fast > limits[count - 1]:
            continue
        matters, slow = False, t + slow_ms[level, d]
        for i in range(count - 1, -1, -1):
            if fast > limits[i]:
                break
            sure[i] += slow * ROUNDED * ROUNDED <= limits[i]
            if low < enough[i]:
                matters = True
                if low < kept[i, top - 1]:
                    at = top - 1
                    while at > 0 and kept[i, at - 1] > low:
                        kept[i, at] = kept[i, at - 1]
                        at -= 1
                    kept[i, at] = low
        if matters:
            new_idx[n], new_nsr[n], new_ms[n] = d, q, t
            n += 1
    bound = 0.0
    for i in range(count):
        total, few = 0.0, max(1, min(top, sure[i]))  # of fewer draws within the limit, the mean may be as good as their best
        for j in range(few):
            total += kept[i, j]
        bound -= total / few
    return n, bound


@njit(nogil=True)
def branch(
    task, begins, ends, order, rest_nsr, rest_ms, slow_ms, enough, bar, climb,
    nsr, ms, fixed, rising, top, worst, resolution, luck, rows_nsr, rows_ms, first, count,
):  # fmt: skip
    """The spaces that begin with ``task`` and score ``bar`` at least, stages as ordered by ``order``: ``[found, stages]``.

    ``climb``: every space found raises the bar to its score.
    """
    stages, draws, limits = len(begins), nsr.shape[1], (rising * WITHIN * ROUNDED).astype(np.float32)
    idx = np.empty((stages + 1, draws), np.int32)
    part_nsr, part_ms = np.zeros((stages + 1, draws), np.float32), np.zeros((stages + 1, draws), np.float32)
    size = np.zeros(stages + 1, np.int64)
    idx[0], part_ms[0], size[0] = np.arange(draws), fixed, draws
    kept, sure = np.empty((len(limits), top), np.float32), np.empty(len(limits), np.int64)
    at, chosen = begins.copy(), np.empty(stages, np.int64)
    found, many = np.empty((16, stages), np.int64), 0
    level, fixed_levels = 0, len(task)
    at[:fixed_levels] = task
    while level >= 0:
        end = task[level] + 1 if level < fixed_levels else ends[level]
        if at[level] >= end:
            level -= 1
            if level >= 0:
                at[level] += 1
            continue
        below = level + 1
        part, narrowed = (idx[level], part_nsr[level], part_ms[level]), (idx[below], part_nsr[below], part_ms[below])
        n, bound = narrow(
            at[level], below, part, size[level], nsr, ms, rest_nsr, rest_ms, slow_ms, limits, enough, top, narrowed, kept, sure
        )  # fmt: skip
        if bound < bar - TIE:
            at[level] += 1
            continue
        if level < stages - 1:
            size[below], level = n, below
            at[level] = task[level] if level < fixed_levels else begins[level]
            continue
        for s in range(stages):
            chosen[order[s]] = at[s]
        score = top_means(chosen, nsr, ms, fixed, rising, top, worst, resolution, luck, rows_nsr, rows_ms, first, count).sum()
        if score >= bar:
            if many == len(found):
                found = np.concatenate((found, found))
            found[many] = at
            many += 1
            bar = score if climb else bar
        at[level] += 1
    return found[:many]
