"""The Q-T score of a search space (paper section 4.2, equation 1).

    Q(A, T_1..n) = sum_i Q(A, T_i),   Q(A, T_i) = E[ Acc_int8(a) : a top-tier in A, LAT(a) <= T_i ]

The expectation is taken as the paper does: of ``draws`` random subnets, the mean quality of the ``top`` best within the
limit. A subnet's quality is the negative sum of its stages' quantized NSR (section 4.5), its latency the sum of its
stages' plus stem and head. The draws are fixed, so that two spaces are compared on the same luck.

A limit that no draw meets scores below any that one does, and higher the nearer the fastest draw comes to it: the
worst NSR sum of the table, times how many times too slow that draw is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spaceevo.errors import bad_value
from spaceevo.evolution.table import Table, as_space
from spaceevo.space import SearchSpace


class QTScore:
    """``score(space)`` in units of NSR, higher is better."""

    def __init__(self, table: Table, limits_ms: Sequence[float], draws: int = 5000, top: int = 20, seed: int = 0) -> None:
        """Raises:
        UserError: a limit that is not above 0.
        """
        for limit in limits_ms:
            if not limit > 0:
                raise bad_value("latency.limits_ms", limit, "above 0")
        self.table, self.limits_ms, self.top = table, tuple(limits_ms), top
        rng = np.random.default_rng(seed)
        self._resolution = np.sort(rng.integers(len(table.resolutions), size=draws))
        self._luck = rng.random((len(table.hyperspace.stages), draws))
        self._fixed = np.array([table.fixed_ms[r] for r in table.resolutions])[self._resolution]
        self._drawn: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._worst = table.worst_nsr()

    def __call__(self, space: SearchSpace | str) -> float:
        return float(self.per_limit(space).sum())

    def per_limit(self, space: SearchSpace | str) -> np.ndarray:
        """Q(A, T_i) for each limit: ``[limits]``."""
        space = as_space(space, self.table.hyperspace)
        nsr, ms = np.zeros_like(self._fixed), self._fixed.copy()
        for stage, choice in enumerate(zip(space.types, space.windows, strict=True)):
            stage_nsr, stage_ms = self._draw(stage, *choice)
            nsr += stage_nsr
            ms += stage_ms
        order = np.argsort(nsr, kind="stable")
        sorted_ms = ms[order]
        return np.array([self._quality(nsr, order, sorted_ms, limit) for limit in self.limits_ms])

    def _quality(self, nsr: np.ndarray, order: np.ndarray, sorted_ms: np.ndarray, limit: float) -> float:
        best = order[np.flatnonzero(sorted_ms <= limit)[: self.top]]
        if len(best) == 0:
            return -self._worst * float(sorted_ms.min()) / limit
        return -float(nsr[best].mean())

    def _draw(self, stage: int, block: int, window: int) -> tuple[np.ndarray, np.ndarray]:
        """NSR and ms of every draw's sub-stage, for one choice of one stage."""
        key = (stage, block, window)
        if key not in self._drawn:
            nsr, ms = np.empty_like(self._fixed), np.empty_like(self._fixed)
            for i, resolution in enumerate(self.table.resolutions):
                mine = self._resolution == i
                rows = self.table.nsr[(*key, resolution)]
                pick = (self._luck[stage, mine] * len(rows)).astype(int)
                nsr[mine], ms[mine] = rows[pick], self.table.ms[(*key, resolution)][pick]
            self._drawn[key] = (nsr, ms)
        return self._drawn[key]
