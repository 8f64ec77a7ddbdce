"""Whether a latency limit takes part in a Q-T score: where Q is what it would be without the limit, it does not bind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spaceevo.evolution.qt_score import QTScore
from spaceevo.space import SearchSpace

TOLERANCE = 1e-4  # of Q


def binding(score: QTScore, spaces: Sequence[SearchSpace | str]) -> np.ndarray:
    """Which of the limits of ``score`` bind for each space: ``[spaces, limits]`` of bool; the last limit is infinity and
    is not among them, all others are compared with it."""
    q = np.array([score.per_limit(space) for space in spaces])
    return np.abs(q[:, :-1] - q[:, -1:]) > TOLERANCE * np.abs(q[:, -1:])
