"""The true top of a space under a limit: the best of all combinations of a table's rows, not of those drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.evolution.table import Table, as_space
from spaceevo.space import SearchSpace


@dataclass(frozen=True)
class TopSubnet:
    """``nsr``: of all stages; ``ms``: stem and head included; ``rows``: which of its key's rows each stage takes."""

    nsr: float
    ms: float
    resolution: int
    rows: tuple[int, ...]


def top_subnet(table: Table, space: SearchSpace | str, limit_ms: float) -> TopSubnet | None:
    """The tabulated subnet of ``space`` with the least NSR within ``limit_ms``; None where none is within it.

    Stage by stage, only sums on the Pareto front of ms and NSR are kept: what is behind it leads to nothing better.
    """
    space = as_space(space, table.hyperspace)
    found = [top for r in table.resolutions if (top := _top_at(table, space, limit_ms, r)) is not None]
    return min(found, key=lambda top: (top.nsr, top.ms), default=None)


def _top_at(table: Table, space: SearchSpace, limit: float, resolution: int) -> TopSubnet | None:
    keys = [(s, t, w, resolution) for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True))]
    fastest = [float(table.ms[key].min()) for key in keys]
    ms, nsr = np.array([table.fixed_ms[resolution]]), np.zeros(1)
    steps: list[tuple[np.ndarray, np.ndarray]] = []  # of every sum kept: the sum before it, and the row added
    for s, key in enumerate(keys):
        row_ms, row_nsr, rows = _front(table.ms[key], table.nsr[key], np.inf)
        all_ms, all_nsr = np.add.outer(ms, row_ms).ravel(), np.add.outer(nsr, row_nsr).ravel()
        ms, nsr, kept = _front(all_ms, all_nsr, limit - sum(fastest[s + 1 :]))
        if not len(kept):
            return None
        before, added = np.divmod(kept, len(rows))
        steps.append((before, rows[added]))
    at, picked = len(nsr) - 1, []
    best = TopSubnet(float(nsr[at]), float(ms[at]), resolution, ())
    for before, added in reversed(steps):
        picked.append(int(added[at]))
        at = before[at]
    return TopSubnet(best.nsr, best.ms, resolution, tuple(reversed(picked)))


def _front(ms: np.ndarray, nsr: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points within ``limit`` that no other beats in both, by rising ms, and their indices."""
    within = np.flatnonzero(ms <= limit + 1e-9)
    order = within[np.lexsort((nsr[within], ms[within]))]
    least = np.minimum.accumulate(nsr[order])
    kept = order[np.r_[True, least[1:] < least[:-1]]] if len(order) else order
    return ms[kept], nsr[kept], kept
