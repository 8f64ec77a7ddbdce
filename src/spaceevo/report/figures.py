"""A run's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from spaceevo.evolution import pareto_front
from spaceevo.provenance import Record
from spaceevo.report.data import WITHIN
from spaceevo.report.drawing import COLORS, Drawing, legend, new


def significant(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, never in powers of ten; an en dash for None."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def accuracy(cards: Sequence[dict], subnets: pd.DataFrame | None) -> Drawing:
    """Test top-1 of the exported models against their latency, their Pareto front and limits, over what was searched."""
    figure, ax = new()
    measured = all(card["measured_ms"] is not None for card in cards)
    word = "measured" if measured else "predicted"
    ms = [card[f"{word}_ms"] for card in cards]
    top1 = [card["top1_runtime"] for card in cards]
    if subnets is not None and "top1_val" in subnets:
        _searched(ax, subnets, cards)
    front = pareto_front(ms, top1)
    look = dict(ms=6.5, mew=0.8, mec=COLORS["page"], c=COLORS["orange"], zorder=3)
    ax.plot(ms, top1, "o", label=f"exported: {word} ms, test", **cast(Any, look))
    ax.lines[-1].set_gid("accuracy-exported")
    ax.plot([ms[i] for i in front], [top1[i] for i in front], c=COLORS["orange"], lw=1.5, label="Pareto front")
    ax.lines[-1].set_gid("accuracy-pareto")
    for i, limit in enumerate(sorted({card["limit_ms"] for card in cards})):
        line = ax.axvline(limit, c=COLORS["muted"], lw=1, ls=(0, (4, 3)), label=None if i else "latency limit")
        line.set_gid(f"accuracy-limit-{i}")
    ax.set(xlabel="latency, ms", ylabel="top-1, %")
    legend(figure)
    tips = [f"{c['encoding']}: {x:.4g} ms {word}, {y:.2f} % test top-1" for c, x, y in zip(cards, ms, top1, strict=True)]
    return Drawing(figure, f"Test top-1 against {word} latency of the exported models", ("accuracy-exported", tips))


def _searched(ax: Axes, subnets: pd.DataFrame, cards: Sequence[dict]) -> None:
    """What the search evaluated, by the images that steered it; the judged front, with the weights that it inherits, by those
    that did not; by these too the models of ``cards``, as they leave: trained on alone."""
    front = subnets[subnets.front].sort_values("predicted_ms")
    finished = [card for card in cards if "top1_val" in card]  # older cards do not tell
    ours = pd.DataFrame({key: [card[key] for card in finished] for key in ("predicted_ms", "top1_val")})
    ring = dict(ms=7, mew=1.2, mfc="none", mec=COLORS["blue"], zorder=3)
    series: tuple[tuple[str, pd.Series, pd.Series, str, str, dict[str, Any]], ...] = (
        ("search", subnets.predicted_ms, subnets.top1_search, "o", "searched: predicted ms, validation",
         dict(ms=3, mew=0, c=COLORS["faint"], alpha=0.7)),
        ("front", front.predicted_ms, front.top1_val, "o-", "their front, inherited, other images",
         dict(ms=3, lw=1.2, c=COLORS["blue"])),
        ("chosen", ours.predicted_ms, ours.top1_val, "o", "chosen, finished, the same images", ring),
    )  # fmt: skip
    for name, ms, top1, form, label, look in series:
        ax.plot(ms, top1, form, label=label, **cast(Any, look))
        ax.lines[-1].set_gid(f"accuracy-{name}")


def prediction(benchmark: pd.DataFrame) -> Drawing:
    """Predicted against measured ms with the band of 10 %."""
    figure, ax = new()
    values = benchmark[["measured_ms", "predicted_ms"]].to_numpy(float)
    margin = 0.06 * (values.max() - values.min()) + 0.01 * values.max()
    low, high = max(0.0, values.min() - margin), values.max() + margin
    ends = np.array([low, high])
    band = ax.fill_between(ends, ends * (1 - WITHIN), ends * (1 + WITHIN), fc=COLORS["green"], alpha=0.15, lw=0, label="± 10 %")
    band.set_gid("prediction-band")
    ax.plot(ends, ends, c=COLORS["green"], lw=1, label="equal")
    kinds = ("random", "random subnets", "blue", 5.0), ("exported", "exported models", "orange", 6.5)
    for kind, label, color, size in kinds:
        rows = benchmark[benchmark.kind == kind]
        if len(rows):
            look = dict(ms=size, mew=0.8, mec=COLORS["page"], c=COLORS[color])
            ax.plot(rows.measured_ms, rows.predicted_ms, "o", label=label, **cast(Any, look))
            ax.lines[-1].set_gid(f"prediction-{kind}")
    ax.set(xlabel="measured, ms", ylabel="predicted, ms", xlim=(low, high), ylim=(low, high))
    legend(figure, 4)
    return Drawing(figure, "Predicted against measured latency of random subnets and exported models")


def block_latency(blocks: pd.DataFrame) -> Drawing:
    """Speed-up of INT8 over FP32 of every profiled block, by block type, with the median latencies."""
    types = sorted(blocks.type.unique(), key=lambda name: blocks[blocks.type == name].speedup.median())
    figure, ax = new(max(2.2, 0.85 + 0.33 * len(types)))
    ax.axvline(1, c=COLORS["muted"], lw=1, ls=(0, (4, 3)), label="as fast as FP32")
    for i, name in enumerate(types):
        rows = blocks[blocks.type == name]
        spread = i + 0.22 * np.cos(np.arange(len(rows)) * 2.4)
        ax.plot(rows.speedup, spread, "o", ms=3.5, mew=0, c=COLORS["blue"], alpha=0.5, label=None if i else "profiled block")
        ax.lines[-1].set_gid(f"blocks-{name}")
        label = None if i else "median"
        ax.plot([rows.speedup.median()], [i], "|", ms=15, mew=2.2, c=COLORS["orange"], label=label)
        ax.lines[-1].set_gid(f"blocks-median-{name}")
    medians = blocks.groupby("type")[["int8", "fp32"]].median()
    labels = [f"{name}\n{significant(medians.int8[name], 2)} | {significant(medians.fp32[name], 2)} ms" for name in types]
    ax.set_yticks(range(len(types)), labels, fontsize=8)
    ax.set_ylim(-0.6, len(types) - 0.4)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="speed-up of INT8 over FP32")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}\N{MULTIPLICATION SIGN}"))
    legend(figure, 3)
    return Drawing(figure, "INT8 against FP32 latency of the profiled blocks by block type")


def wall_time(records: dict[str, Record]) -> Drawing:
    """Wall time of every step, in seconds."""
    figure, ax = new(0.65 + 0.235 * len(records))
    longest = max(record["wall_s"] for record in records.values())
    for i, (name, record) in enumerate(records.items()):
        (bar,) = ax.barh(i, record["wall_s"], height=0.62, color=COLORS["blue"])
        bar.set_gid(f"time-{name}")
        ax.text(record["wall_s"] + 0.015 * longest, i, f"{record['wall_s']:,.1f} s", va="center", fontsize=8)
    ax.set_yticks(range(len(records)), list(records))
    ax.set_ylim(len(records) - 0.4, -0.6)
    ax.set_xlim(0, 1.2 * longest)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="wall time, s")
    return Drawing(figure, "Wall time of every step")
