"""The run's models and its baselines: accuracy against latency in one runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from matplotlib.axes import Axes

from spaceevo.evolution import pareto_front
from spaceevo.report.drawing import COLORS, Drawing, legend, new


def fronts(found: Mapping[str, Any], runtime: str) -> Drawing:
    """Test top-1 against measured ms of the networks of ``baselines.yaml``, of the run's models and of those found at the
    networks' latencies, each with its Pareto front."""
    figure, ax = new()
    at = found["at"] if found["searched"] else []
    _series(ax, "baselines", "standard networks", "blue", "s", found["networks"], runtime)
    _series(ax, "found", "models of the run", "orange", "o", [*found["models"], *at], runtime)
    ax.set(xlabel=f"latency in {runtime}, ms", ylabel="test top-1, %")
    legend(figure)
    networks = sorted(found["networks"], key=lambda row: row["measured_ms"][runtime])
    tips = [f"{row['name']}: {row['measured_ms'][runtime]:.4g} ms, {row['top1'][runtime]:.2f} %" for row in networks]
    words = f"Test top-1 against latency in {runtime} of the run's models and of standard networks"
    return Drawing(figure, words, (f"{runtime}-baselines", tips))


def _series(ax: Axes, name: str, label: str, color: str, form: str, rows: Sequence[Mapping[str, Any]], runtime: str) -> None:
    """Marks by rising latency, and the line of their Pareto front."""
    rows = sorted(rows, key=lambda row: row["measured_ms"][runtime])
    ms, top1 = ([row[key][runtime] for row in rows] for key in ("measured_ms", "top1"))
    front = pareto_front(ms, top1)
    look = dict(ms=6, mew=0.8, mec=COLORS["page"], c=COLORS[color], zorder=3)
    ax.plot(ms, top1, form, label=label, **cast(Any, look))
    ax.lines[-1].set_gid(f"{runtime}-{name}")
    ax.plot([ms[i] for i in front], [top1[i] for i in front], c=COLORS[color], lw=1.5, label="their Pareto front")
    ax.lines[-1].set_gid(f"{runtime}-{name}-front")
