"""How good predictions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FEW = 19  # ratios, of which the least and the most hold nine of ten of what follows


def scores_of(error: np.ndarray) -> dict[str, Any]:
    """Of relative errors ``[N]``: how many, percent within 5 and within 10 %, and the median absolute one in percent."""
    size = np.abs(error)
    return dict(
        n=len(size),
        within_5pct=float((size <= 0.05).mean() * 100),
        within_10pct=float((size <= 0.1).mean() * 100),
        median_error_pct=float(np.median(size) * 100),
    )


def nine_of_ten(ratios: np.ndarray | Sequence[float]) -> tuple[float, float]:
    """What all but one in twenty of ``ratios`` reach, and what all but one in twenty do not exceed. Between the least and the
    most of few, fewer than nine of ten of what follows lie: these are taken for log-normal (Student's t)."""
    if 1 < len(ratios) < FEW:
        from scipy.stats import t

        logs = np.log(ratios)
        away = t.ppf(0.95, len(logs) - 1) * logs.std(ddof=1) * (1 + 1 / len(logs)) ** 0.5
        return float(np.exp(logs.mean() - away)), float(np.exp(logs.mean() + away))
    low, high = np.quantile(ratios, 0.05, method="lower"), np.quantile(ratios, 0.95, method="higher")
    return float(low), float(high)
