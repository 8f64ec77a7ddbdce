"""The NSR of any sub-stage of one stage: a smooth model of log NSR, for tables of a few rows a key.

One ridge regression a stage over all its block types: they share the slopes, and each type has a level of its own and
departures from the slopes of its own, which are penalized more. So a type's few rows tell how it differs from the others,
and not all that they have in common.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

FLOOR = 1e-6  # an NSR of 0 has no logarithm
#: Ridge penalties of the shared slopes, the types' levels and the types' own departures, of standardized features.
SLOPE, LEVEL, OWN = 1.0, 0.1, 10.0
#: Pairs of features whose products count too: of the first five of ``features_of``.
CURVED = list(combinations_with_replacement(range(5), 2))


class SmoothNsr:
    """``nsr(types, features)``: the predicted NSR ``[N]`` of sub-stages of one stage."""

    def __init__(self, types: np.ndarray, features: np.ndarray, nsr: np.ndarray) -> None:
        """Fits to rows: block type index ``[rows]``, ``features`` ``[rows, ...]`` (see ``features_of``) and their NSR."""
        self.types = np.unique(types)
        self._mean, self._scale = features.mean(0), features.std(0)
        self._scale[self._scale < 1e-9] = 1.0
        x, target = self._design(types, features), np.log(np.maximum(nsr, FLOOR))
        slopes, kinds = features.shape[1] + len(CURVED), len(self.types)
        penalty = np.repeat([1e-9, SLOPE, LEVEL, OWN], [1, slopes, kinds, kinds * slopes])
        self._weights = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ target)

    def nsr(self, types: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Of sub-stages by their block ``types`` ``[N]`` and ``features`` ``[N, F]``: ``[N]``."""
        return np.exp(self._design(types, features) @ self._weights)

    def _design(self, types: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Standardized, and bounded to three deviations so that no prediction runs away."""
        x = np.clip((features - self._mean) / self._scale, -3, 3)
        x = np.column_stack([x, *(x[:, i] * x[:, j] for i, j in CURVED)])
        one_of = (types[:, None] == self.types).astype(float)
        own = (one_of[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        return np.column_stack([np.ones(len(x)), x, one_of, own])


def features_of(resolution: np.ndarray, cin: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """``[N, features]`` of sub-stages: resolution and input width ``[N]``; kernel, width and expand (0 or NaN: none) of every
    block ``[N, deepest, 3]``, 0 where there is none."""
    kernel, width, expand = np.moveaxis(np.nan_to_num(blocks), 2, 0)
    here = kernel > 0
    depth = here.sum(1)

    def mean(values: np.ndarray) -> np.ndarray:
        return (values * here).sum(1) / depth

    before = np.column_stack([cin, width[:, :-1]])
    same = here & (before == width)  # an identity shortcut, where the stride is 1
    log_width = np.log(np.where(here, width, 1))
    inner = log_width + np.log(np.where(expand > 0, expand, 1))
    narrow, thin = (np.where(here, values, np.inf).min(1) for values in (log_width, inner))
    log_cin, log_resolution = np.log(cin), np.log(resolution)
    last = log_width[np.arange(len(blocks)), depth - 1]
    capacity = np.log((here * before * width * np.maximum(expand, 1)).sum(1))
    curved = [log_resolution, log_cin, mean(log_width), last, mean(kernel)]
    straight = [
        depth,
        mean(expand),
        1 / depth,
        narrow,
        thin,
        capacity,
        kernel[:, 0],
        expand[:, 0],
        same[:, 0],
        same[:, 1:].sum(1),
        np.minimum(log_cin, narrow),
        np.minimum(log_cin, log_width[:, 0]),
    ]
    return np.column_stack([*curved, *straight])
