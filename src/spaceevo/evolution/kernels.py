"""The inner loops, compiled by numba at their first call and kept in its cache. Imported only where they are called."""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 1024  # draws added up at once: a block of sums stays in the fastest cache
GROUP = 64  # draws looked at together before any of them singly


@njit(cache=True, nogil=True)
def draw_rows(stage_of, resolution, luck, rows_nsr, rows_ms, first, count, nsr, ms):  # type: ignore[no-untyped-def]
    """Fill ``nsr`` and ``ms`` ``[choices, draws]`` with the rows that every draw's luck picks."""
    for c in range(nsr.shape[0]):
        for d in range(nsr.shape[1]):
            r = resolution[d]
            row = first[c, r] + int(luck[stage_of[c], d] * count[c, r])
            nsr[c, d] = rows_nsr[row]
            ms[c, d] = rows_ms[row]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def select(chosen, nsr, ms, fixed, limits, top):  # type: ignore[no-untyped-def]
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


@njit(cache=True, nogil=True)
def add_up(chosen, draw, resolution, luck, rows, first, count):  # type: ignore[no-untyped-def]
    """The sum of one draw's ``rows`` over the stages, in float64."""
    total, r = 0.0, resolution[draw]
    for s in range(len(chosen)):
        c = chosen[s]
        total += rows[first[c, r] + int(luck[s, draw] * count[c, r])]
    return total


@njit(cache=True, nogil=True)
def top_means(chosen, nsr, ms, fixed, limits, top, worst, resolution, luck, rows_nsr, rows_ms, first, count):  # type: ignore[no-untyped-def]
    """Q(A, T_i) of each limit (rising) ``[limits]``: see ``qt_score``. Draws are selected in float32, added in float64."""
    best, kept, fastest = select(chosen, nsr, ms, fixed, limits.astype(np.float32), top)
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


@njit(cache=True, nogil=True)
def product(waves, chosen):  # type: ignore[no-untyped-def]
    """The stages' transforms multiplied: ``waves`` ``[choices, resolutions, ...]``."""
    whole = waves[chosen[0]].copy()
    flat = whole.reshape(-1)
    for s in range(1, len(chosen)):
        more = waves[chosen[s]].reshape(-1)
        for i in range(len(flat)):
            flat[i] *= more[i]
    return whole


@njit(cache=True, nogil=True)
def top_tier(nsr, below, met, draws, top, smooth):  # type: ignore[no-untyped-def]
    """The expected mean NSR of the ``top`` best of ``draws`` draws within a limit (of all, where fewer are within it);
    without a draw within it, it counts as 0.

    ``below``: P(within, NSR <= ``nsr``), rising, a step function unless ``smooth``; ``met``: P(within). Of the ``top``
    best, the share above q integrates over q to their mean. With ``a`` draws at or below q and ``b`` above, that share
    is (top - a) / top where a + b >= top, else b / (a + b); (a, b) is multinomial.
    """
    some, total, before = 1.0 - (1.0 - met) ** draws, 0.0, 0.0
    scarce = draws * met < top + 6.0 * np.sqrt(top) + 20.0
    g = 0.0
    for i in range(len(nsr)):
        g = min(max(g, below[i]), met)
        share, pa = 0.0, (1.0 - g) ** draws
        for a in range(top):
            if scarce:
                rest, missing, inner = (met - g) / max(1.0 - g, 1e-300), 1.0, 0.0
                pb = (1.0 - rest) ** (draws - a)
                for b in range(top - a):
                    inner += pb * b / max(a + b, 1)
                    missing -= pb
                    pb *= (draws - a - b) / (b + 1.0) * rest / (1.0 - rest) if rest < 1.0 else 0.0
                share += pa * (inner + max(missing, 0.0) * (top - a) / top)
            else:
                share += pa * (top - a) / top
            pa *= (draws - a) / (a + 1.0) * g / (1.0 - g) if g < 1.0 else 0.0
        if i == 0:
            total = some * nsr[0]
        elif smooth:
            total += 0.5 * (share + before) * (nsr[i] - nsr[i - 1])
        else:
            total += before * (nsr[i] - nsr[i - 1])
        before = share
        if share < 1e-12:
            break
    return total


TIE = 1e-5  # float32 sums tell scores apart that differ by more


@njit(cache=True, nogil=True)
def narrow(choice, level, idx, part_nsr, part_ms, m, nsr, ms, rest_nsr, rest_ms, slow_ms, limits, enough, top, new_idx, new_nsr, new_ms, kept, sure):  # type: ignore[no-untyped-def]
    """Add ``choice`` to a node's ``m`` draws; keep those that may matter.

    Returns:
        How many are kept, and the bound on the score of every space below.
    """
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
            sure[i] += slow <= limits[i]
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


@njit(cache=True, nogil=True)
def branch(task, begins, ends, order, rest_nsr, rest_ms, slow_ms, enough, value, best, nsr, ms, fixed, rising, top, worst, resolution, luck, rows_nsr, rows_ms, first, count):  # type: ignore[no-untyped-def]
    """The best of ``best`` (of score ``value``) and all spaces that begin with ``task``; stages as ordered by ``order``."""
    stages, draws, limits = len(begins), nsr.shape[1], rising.astype(np.float32)
    idx = np.empty((stages + 1, draws), np.int32)
    part_nsr, part_ms = np.zeros((stages + 1, draws), np.float32), np.zeros((stages + 1, draws), np.float32)
    size = np.zeros(stages + 1, np.int64)
    idx[0], part_ms[0], size[0] = np.arange(draws), fixed, draws
    kept, sure = np.empty((len(limits), top), np.float32), np.empty(len(limits), np.int64)
    at, chosen, best = begins.copy(), np.empty(stages, np.int64), best.copy()
    level = 0
    fixed_levels = len(task)
    at[:fixed_levels] = task
    while level >= 0:
        end = task[level] + 1 if level < fixed_levels else ends[level]
        if at[level] >= end:
            level -= 1
            if level >= 0:
                at[level] += 1
            continue
        n, bound = narrow(at[level], level + 1, idx[level], part_nsr[level], part_ms[level], size[level], nsr, ms, rest_nsr, rest_ms, slow_ms, limits, enough, top, idx[level + 1], part_nsr[level + 1], part_ms[level + 1], kept, sure)  # fmt: skip
        if bound < value - TIE:
            at[level] += 1
            continue
        if level < stages - 1:
            size[level + 1] = n
            level += 1
            at[level] = task[level] if level < fixed_levels else begins[level]
            continue
        for s in range(stages):
            chosen[order[s]] = at[s]
        score = top_means(chosen, nsr, ms, fixed, rising, top, worst, resolution, luck, rows_nsr, rows_ms, first, count).sum()
        if score > value:
            value = score
            best[:] = at
        at[level] += 1
    return best


@njit(cache=True, nogil=True)
def draw_fitting(resolution, luck, begins, rows_nsr, rows_ms, follows, nsr, ms, after):  # type: ignore[no-untyped-def]
    """Fill one slot's draws: rows of a choice and an input width, by resolution from ``begins``."""
    for d in range(len(nsr)):
        r = resolution[d]
        count = begins[r + 1] - begins[r]
        if count == 0:
            nsr[d], ms[d], after[d] = np.inf, np.inf, 0
        else:
            row = begins[r] + int(luck[d] * count)
            nsr[d], ms[d], after[d] = rows_nsr[row], rows_ms[row], follows[row]


@njit(cache=True, nogil=True)
def chain(slots, nsr, ms, after, fixed):  # type: ignore[no-untyped-def]
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


@njit(cache=True, nogil=True)
def top_means_of_sums(sum_nsr, sum_ms, rising, top, worst):  # type: ignore[no-untyped-def]
    """``top_means`` of draws that are already added up ``[1, draws]``, in float32."""
    none = np.zeros(sum_nsr.shape[1], np.float32)
    best, kept, fastest = select(np.zeros(1, np.int64), sum_nsr, sum_ms, none, rising.astype(np.float32), top)
    quality = np.empty(len(rising))
    for i in range(len(rising)):
        total = 0.0
        for j in range(kept[i]):
            total += sum_nsr[0, best[i, j]]
        quality[i] = -total / kept[i] if kept[i] > 0 else -worst * sum_ms[0, fastest] / rising[i]
    return quality
