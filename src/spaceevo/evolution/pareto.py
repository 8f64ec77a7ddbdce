"""The Pareto front of cost and quality, and how much of the plane it rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(costs: Sequence[float] | np.ndarray, qualities: Sequence[float] | np.ndarray) -> list[int]:
    """Indices of the points that no other beats in both cost (less) and quality (more), by rising cost."""
    cost, quality = np.asarray(costs, float), np.asarray(qualities, float)
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(np.concatenate(([-np.inf], quality[order])))
    return order[quality[order] > best[:-1]].tolist()


def hypervolume(
    costs: Sequence[float] | np.ndarray, qualities: Sequence[float] | np.ndarray, reference: tuple[float, float]
) -> float:
    """The exact area, in cost times quality, of all that some point beats and that beats ``reference``, a cost and a
    quality; a point that does not beat the reference adds nothing."""
    cost, quality = np.asarray(costs, float), np.asarray(qualities, float)
    inside = (cost < reference[0]) & (quality > reference[1])
    cost, quality = cost[inside], quality[inside]
    front = pareto_front(cost, quality)
    widths = np.diff(np.append(cost[front], reference[0]))
    return float(widths @ (quality[front] - reference[1]))
