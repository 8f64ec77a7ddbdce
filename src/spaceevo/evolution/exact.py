"""What the sampled Q-T score estimates, without sampling: the expectation of equation 1 over all draws.

A draw's NSR and latency are sums over the stages of independent rows, so their joint distribution's transform is the
product of the stages' transforms, which need only be made once for every choice (block type, window, resolution). With
a row's ms ``x`` and NSR ``y`` measured from their least, a stage's is

    phi(u, v) = mean over rows of exp(-(a + iu) x - (b + iv) y),    u = 2 pi j / X,  v = 2 pi k / Y

at ``WAVES`` frequencies each way; ``a`` and ``b`` damp what is slow and bad, so that the rare good draws are told with
a small relative error, and what is beyond a period ``X``, ``Y`` does not fold back. The damped density is the Fourier
series of the product, and integrates in closed form to

    G(T, q) = P(LAT <= T, NSR <= q)

Of ``n`` draws the number with LAT <= T, NSR <= q is binomial, which gives the expected mean of the ``top`` smallest
NSR within T (``kernels_exact.top_tier``). Tables of a few rows are no smooth densities: their subnets are enumerated.
"""

from __future__ import annotations

import numpy as np

from spaceevo.evolution.draws import choices_of, chosen
from spaceevo.evolution.table import Table
from spaceevo.space import SearchSpace

WAVES_MS, WAVES_NSR = 28, 48
DAMPING = 10.0  # of a whole period, as an exponent
WAVES_NEAREST = 192  # of the latency alone, for limits that may not be met
POINTS = 320  # at which G(T, q) is evaluated
ENUMERATED = 500_000  # subnets at most
NEVER = 1e-9  # the probability of what is left out


class Expectation:
    """``of(space)``: the expected Q(A, T_i) of each limit (rising) over ``draws`` draws ``[limits]``."""

    def __init__(self, table: Table, limits: np.ndarray, draws: int, top: int, worst: float) -> None:
        self.table, self.limits, self.draws, self.top, self.worst = table, limits, draws, top, worst
        keys = choices_of(table)
        stages = np.array([key[0] for key in keys])
        self._begins = np.searchsorted(stages, np.arange(len(table.hyperspace.stages) + 1))
        rows = [[(table.ms[(*key, r)], table.nsr[(*key, r)]) for r in table.resolutions] for key in keys]
        self._least = np.array([[(ms.min(), nsr.min()) for ms, nsr in by_resolution] for by_resolution in rows])
        self._most = np.array([[ms.max() for ms, _ in by_resolution] for by_resolution in rows])
        spans = np.array([[(np.ptp(ms), np.ptp(nsr)) for ms, nsr in by_resolution] for by_resolution in rows]).max(1)
        per_stage = np.array([spans[a:b].max(0) for a, b in zip(self._begins[:-1], self._begins[1:], strict=True)])
        span_ms, span_nsr = np.maximum(per_stage.sum(0), 1e-9)
        self._reach = min(span_ms, limits[-1])
        self._fixed = np.array([table.fixed_ms[r] for r in table.resolutions])
        self._ms, self._nsr = _Waves(1.6 * self._reach, WAVES_MS), _Waves(1.1 * span_nsr, WAVES_NSR, two_sided=True)
        self._slow = _Waves(1.1 * span_ms, WAVES_NEAREST)
        shape = (len(keys), len(table.resolutions))
        self._both = np.empty((*shape, WAVES_MS + 1, 2 * WAVES_NSR + 1), complex)
        self._alone = np.empty((*shape, WAVES_NEAREST + 1), complex)
        for i, by_resolution in enumerate(rows):
            for j, (ms, nsr) in enumerate(by_resolution):
                x, y = ms - ms.min(), nsr - nsr.min()
                self._both[i, j] = self._ms.of(x) @ self._nsr.of(y).T / len(x)
                self._alone[i, j] = self._slow.of(x).mean(1)
        self._offsets = np.linspace(0, span_nsr, POINTS)
        self._later = span_ms * np.linspace(0, 1, 2 * POINTS) ** 2
        self._grid, self._slow_grid = _grid(self._nsr.z, self._offsets), _grid(self._slow.z, self._later)

    def of(self, space: SearchSpace) -> np.ndarray:
        """Q(A, T_i) for each limit, which rise: ``[limits]``."""
        keys = [
            [(s, t, w, r) for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True))]
            for r in self.table.resolutions
        ]
        subnets = sum(float(np.prod([len(self.table.nsr[key]) for key in at])) for at in keys)
        return self._enumerated(keys) if subnets <= ENUMERATED else self._transformed(chosen(self.table, self._begins, space))

    def _transformed(self, choice: np.ndarray) -> np.ndarray:
        from spaceevo.evolution.kernels_exact import product, top_tier

        least_ms, least_nsr = self._least[choice].sum(0).T
        least_ms = least_ms + self._fixed
        lowest = least_nsr.min()
        within = np.clip(self.limits[None] - least_ms[:, None], 0, self._reach)  # [resolutions, limits]
        waves = self._ms.integral(within) @ product(self._both, choice)  # [resolutions, limits, NSR waves]
        waves /= self._nsr.period * self._nsr.z * len(least_ms)
        shifted = (waves * np.exp(self._nsr.z * (lowest - least_nsr)[:, None])[:, None]).sum(0)
        below = _real(shifted, self._grid) - waves.sum((0, 2)).real[:, None]
        alone = product(self._alone, choice)
        share = (self._slow.integral(within) @ alone[:, :, None])[:, :, 0].real.mean(0)
        share = np.clip(share, 0, 1) * (self.limits >= least_ms.min())
        share[self.limits >= (self._most[choice].sum(0) + self._fixed).max()] = 1
        unmet = (1 - share) ** self.draws
        times, met = self._latency(alone, least_ms) if unmet.max() > NEVER else (np.empty(0), np.empty(0))
        quality = np.empty(len(self.limits))
        for i, (limit, p) in enumerate(zip(self.limits, share, strict=True)):
            quality[i] = -top_tier(lowest + self._offsets, below[i], p, self.draws, self.top, True)
            if unmet[i] > NEVER:
                after = np.searchsorted(times, limit, side="right")
                quality[i] -= unmet[i] * self.worst * self._nearest(p, times[after:], met[after:], True) / limit
        return quality

    def _latency(self, alone: np.ndarray, least_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Times, denser towards the fastest subnet, and P(LAT <= time)."""
        waves = alone / (self._slow.z * self._slow.period * len(least_ms))
        waves[:, 1:] *= 2
        shifted = (waves * np.exp(self._slow.z * (least_ms.min() - least_ms)[:, None])).sum(0)
        met = _real(shifted, self._slow_grid) - waves.sum().real
        return least_ms.min() + self._later, np.maximum.accumulate(np.clip(met, 0, 1))

    def _enumerated(self, keys: list[list[tuple[int, int, int, int]]]) -> np.ndarray:
        from spaceevo.evolution.kernels_exact import top_tier

        ms: list[np.ndarray] = []
        nsr: list[np.ndarray] = []
        weight: list[np.ndarray] = []
        for fixed, at in zip(self._fixed, keys, strict=True):
            x, y = np.array([fixed]), np.zeros(1)
            for key in at:
                x, y = (np.add.outer(a, b).ravel() for a, b in ((x, self.table.ms[key]), (y, self.table.nsr[key])))
            ms, nsr, weight = [*ms, x], [*nsr, y], [*weight, np.full(len(x), 1 / len(x) / len(keys))]
        x, y, w = map(np.concatenate, (ms, nsr, weight))
        quality = np.empty(len(self.limits))
        told = int((self.top + 6 * self.top**0.5 + 20) / self.draws / w.min()) + 1  # more of the best play no part
        for i, limit in enumerate(self.limits):
            within = np.flatnonzero(x <= limit)
            p = float(w[within].sum())
            if len(within) > told:
                within = within[np.argpartition(y[within], told)[:told]]
            order = within[np.argsort(y[within])]
            quality[i] = -top_tier(y[order], np.cumsum(w[order]), p, self.draws, self.top, False) if p > 0 else 0
            unmet = max(0.0, 1 - p) ** self.draws
            if unmet > NEVER and p < 1 - 1e-12:
                later = np.flatnonzero(x > limit)
                later = later[np.argsort(x[later])]
                nearest = self._nearest(p, x[later], p + np.cumsum(w[later]), False)
                quality[i] -= unmet * self.worst * nearest / limit
        return quality

    def _nearest(self, met: float, times: np.ndarray, cumulated: np.ndarray, smooth: bool) -> float:
        """The expected latency of the fastest of all draws, where none meets a limit that ``times`` begin after."""
        beyond = np.clip((1 - cumulated) / (1 - met), 0, 1) ** self.draws
        if smooth:
            return float(times[0] + np.trapezoid(beyond, times))
        return float(times[0] + (beyond[:-1] * np.diff(times)).sum())


def _grid(z: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``exp(z x)`` as real and imaginary part ``[waves, points]``."""
    whole = np.exp(np.outer(z, x))
    return np.ascontiguousarray(whole.real), np.ascontiguousarray(whole.imag)


def _real(waves: np.ndarray, grid: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The real part of ``waves @ grid``."""
    return waves.real @ grid[0] - waves.imag @ grid[1]


class _Waves:
    """The frequencies of one of the two sums: ``z = damping + i 2 pi j / period``."""

    def __init__(self, period: float, count: int, two_sided: bool = False) -> None:
        self.period = period
        self.z = DAMPING / period + 2j * np.pi / period * np.arange(-count if two_sided else 0, count + 1)

    def of(self, values: np.ndarray) -> np.ndarray:
        """``exp(-z x)``: ``[waves, values]``."""
        return np.exp(-np.outer(self.z, values))

    def integral(self, until: np.ndarray) -> np.ndarray:
        """Weights with which one-sided waves add up to the density's integral from 0 to ``until``: ``[..., waves]``."""
        weights = np.expm1(until[..., None] * self.z) / self.z / self.period
        weights[..., 1:] *= 2  # the waves of negative frequency
        return weights
