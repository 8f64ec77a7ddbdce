"""The Q-T score of a search space (paper section 4.2, equation 1).

    Q(A, T_1..n) = sum_i Q(A, T_i),   Q(A, T_i) = E[ Acc_int8(a) : a top-tier in A, LAT(a) <= T_i ]

The expectation is taken as the paper does: of ``draws`` random subnets, the mean quality of the ``top`` best within the
limit. A subnet's quality is the negative sum of its stages' quantized NSR (section 4.5), its latency the sum of its
stages' plus stem and head; all its stages are of one input resolution. Two modes:

``sampled``: the paper's, on draws that are fixed, so that two spaces are compared on the same luck (``draws.py``).
``exact``: the expectation of the sampled score over all luck, computed (``exact.py``); as fast, and the one to use,
    since the noise of 5,000 draws reorders spaces.

A limit that no draw meets scores below any that one does, and higher the nearer the fastest draw comes to it: the
worst NSR sum of the table, times how many times too slow that draw is. In exact mode each case counts as probable as
it is. Draws join rows whose widths need not fit, so that they may meet a limit that no subnet of the space does: where it
is known what the fastest takes (``fastest``), a limit below counts as met by no draw, and that subnet as the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.evolution.draws import Draws
from spaceevo.evolution.exact import Expectation
from spaceevo.evolution.fitting import FittingDraws
from spaceevo.evolution.table import Table, as_space
from spaceevo.space import SearchSpace

MODES = ("sampled", "exact")


class QTScore:
    """``score(space)`` in units of NSR, higher is better."""

    def __init__(
        self,
        table: Table,
        limits_ms: Sequence[float],
        draws: int = 5000,
        top: int = 20,
        seed: int = 0,
        mode: str = "sampled",
        fitting: bool = False,
        fastest: Callable[[SearchSpace], float] | None = None,
    ) -> None:
        """``seed``: of the draws; the exact mode has no luck. ``fitting``: only sub-stages whose widths fit are joined
        (``fitting.py``), in the sampled mode. ``fastest``: the ms of a space's fastest subnet.

        Raises:
            UserError: a limit that is not above 0, more ``top`` than ``draws``, an unknown ``mode``.
        """
        for limit in limits_ms:
            if not limit > 0:
                raise bad_value("latency.limits_ms", limit, "above 0")
        if mode not in MODES:
            raise bad_choice("search_space.mode", mode, MODES)
        if not 1 <= top <= draws:
            raise bad_value("search_space.top", top, f"from 1 to draws={draws}")
        self.table, self.limits_ms, self.draw_count, self.top = table, tuple(map(float, limits_ms)), draws, top
        self.mode, self.fitting, self.fastest = mode, fitting, fastest
        self._rising = np.sort(np.array(self.limits_ms))
        self._as_given = np.argsort(np.argsort(self.limits_ms, kind="stable"), kind="stable")
        self._worst = worst = table.worst_nsr()
        self._known: tuple[Any, ...]
        self._rows: tuple[Any, ...]
        if fitting:
            if mode == "exact":
                raise UserError("search_space.fitting=true: needs search_space.mode=sampled")
            self._fitting, self._known = FittingDraws(table, draws, seed), (self._rising, top, worst)
        elif mode == "exact":
            self._expectation = Expectation(table, self._rising, draws, top, worst)
        else:
            self.draws = d = Draws.make(table, draws, seed)
            self._known = (d.nsr, d.ms, d.fixed.astype(np.float32), self._rising, top, worst)
            self._rows = (d.resolution, d.luck, d.rows_nsr, d.rows_ms, d.first, d.count)

    def __call__(self, space: SearchSpace | str) -> float:
        return float(self.per_limit(space).sum())

    def per_limit(self, space: SearchSpace | str) -> np.ndarray:
        """Q(A, T_i) for each limit: ``[limits]``."""
        space = as_space(space, self.table.hyperspace)
        quality = self._of_draws(space)
        if self.fastest is None:
            return quality
        times = self.fastest(space) / np.array(self.limits_ms)
        return np.where(times > 1, -self._worst * times, quality)

    def _of_draws(self, space: SearchSpace) -> np.ndarray:
        if self.mode == "exact":
            return self._expectation.of(space)[self._as_given]
        from spaceevo.evolution.kernels import top_means, top_means_of_sums

        if self.fitting:
            return top_means_of_sums(*self._fitting.sums(space), *self._known)[self._as_given]
        return top_means(self.draws.chosen(space), *self._known, *self._rows)[self._as_given]
