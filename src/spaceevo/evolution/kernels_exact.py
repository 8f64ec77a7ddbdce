"""The inner loops of the exact score, compiled by numba. Imported only where they are called."""

from __future__ import annotations

import numpy as np

from spaceevo.compiled import njit


@njit(nogil=True)
def product(waves, chosen):
    """The stages' transforms multiplied: ``waves`` ``[choices, resolutions, ...]``."""
    whole = waves[chosen[0]].copy()
    flat = whole.reshape(-1)
    for s in range(1, len(chosen)):
        more = waves[chosen[s]].reshape(-1)
        for i in range(len(flat)):
            flat[i] *= more[i]
    return whole


@njit(nogil=True)
def top_tier(nsr, below, met, draws, top, smooth):
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
