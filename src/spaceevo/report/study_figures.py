"""The figures of a study of quantization: the paper's figures 1 and 2 of the device at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from spaceevo.report.drawing import COLORS, Drawing, legend, new
from spaceevo.report.figures import significant
from spaceevo.report.studied import OURS, UNTOLD, Pair, front, ranking

DASHED: Any = dict(c=COLORS["muted"], lw=1, ls=(0, (4, 3)), label="as fast as FP32")


def op_speedups(ops: Sequence[Pair]) -> Drawing:
    """Speed-up of INT8 over FP32 of single ops, with that of most rounds and the ms of both (figure 2a)."""
    figure, ax = new(0.9 + 0.42 * len(ops))
    ax.axvline(1, **DASHED)
    shown = [(i, pair) for i, pair in enumerate(ops) if pair.verdict != UNTOLD]
    for i, pair in shown:
        ax.plot([pair.low, pair.high], [i, i], c=COLORS["orange"], lw=2.5, alpha=0.5)
    ax.plot([pair.speedup for _, pair in shown], [i for i, _ in shown], "o", ms=6, mew=0, c=COLORS["orange"], label="INT8")
    ax.lines[-1].set_gid("ops")
    labels = [f"{pair.name}\n{significant(pair.int8_ms, 2)} | {significant(pair.fp32_ms, 2)} ms" for pair in ops]
    ax.set_yticks(range(len(ops)), labels, fontsize=8)
    ax.set_ylim(len(ops) - 0.4, -0.6)
    ax.set_xlim(left=0)
    _times(ax, "x")
    return _finished(figure, "INT8 against FP32 latency of single ops", "ops", [pair for _, pair in shown])


def width_speedups(widths: Sequence[Pair]) -> Drawing:
    """Speed-up of INT8 over FP32 of 1x1 convolutions over their channels (figure 2b)."""
    figure, ax = new()
    shown = [pair for pair in widths if pair.verdict != UNTOLD]
    channels = [int(pair.facts["channels"]) for pair in shown]
    ax.axhline(1, **DASHED)
    for at, pair in zip(channels, shown, strict=True):
        ax.plot([at, at], [pair.low, pair.high], c=COLORS["orange"], lw=2.5, alpha=0.5)
    ax.plot(channels, [pair.speedup for pair in shown], "o-", ms=5, mew=0, lw=1.5, c=COLORS["orange"], label="INT8")
    ax.lines[-1].set_gid("widths")
    ax.set_xscale("log", base=2)
    ax.set_xticks(channels, [str(at) for at in channels])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0)
    ax.set_xlabel("input channels")
    _times(ax, "y")
    return _finished(figure, "INT8 speed-up of 1x1 convolutions over channel widths", "widths", shown)


def model_latencies(models: Sequence[Pair]) -> Drawing:
    """INT8 and FP32 ms of whole models, with the speed-up, by rising INT8 ms (figure 1)."""
    shown = sorted(models, key=lambda pair: pair.int8_ms)
    figure, ax = new(0.9 + 0.34 * len(shown))
    for precision, color, shift in (("int8", "orange", -0.19), ("fp32", "blue", 0.19)):
        values = np.nan_to_num([pair.int8_ms if precision == "int8" else pair.fp32_ms for pair in shown])
        bars = ax.barh(np.arange(len(shown)) + shift, values, height=0.36, color=COLORS[color], label=precision.upper())
        for pair, bar in zip(shown, bars, strict=True):
            bar.set_gid(f"model-{precision}-{pair.name}")
    longest = np.nanmax([(pair.int8_ms, pair.fp32_ms) for pair in shown])
    for i, pair in enumerate(shown):
        if pair.speedup > 0:
            at = max(pair.int8_ms, pair.fp32_ms) + 0.015 * longest
            ax.text(at, i, f"{pair.speedup:.1f}\N{MULTIPLICATION SIGN}", va="center", fontsize=8)
    ax.set_yticks(range(len(shown)), [pair.name for pair in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.12 * longest)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="latency, ms")
    legend(figure)
    return Drawing(figure, "INT8 and FP32 latency of whole models")


def model_accuracies(models: Sequence[Pair]) -> Drawing | None:
    """INT8 top-1 of Table 1 against INT8 ms measured, and who wins; None where no model is in the table."""
    ranked = ranking(models)
    if not ranked:
        return None
    figure, ax = new()
    best = front(ranked)
    ax.plot([pair.int8_ms for pair in best], [pair.top1 for pair in best], c=COLORS["faint"], lw=1.5, label="Pareto front")
    ax.lines[-1].set_gid("accuracies-front")
    ours = [pair for pair in ranked if pair.name.startswith(OURS)]
    others = [pair for pair in ranked if not pair.name.startswith(OURS)]
    for name, group, color, form in (("ours", ours, "orange", "o"), ("others", others, "blue", "s")):
        look = dict(ms=6, mew=0.8, mec=COLORS["page"], c=COLORS[color], zorder=3)
        label = "the paper's models" if name == "ours" else "other networks"
        ax.plot([pair.int8_ms for pair in group], [pair.top1 for pair in group], form, label=label, **cast(Any, look))
        ax.lines[-1].set_gid(f"accuracies-{name}")
    ax.set(xlabel="INT8 latency measured here, ms", ylabel="INT8 top-1 of Table 1, %")
    legend(figure, 3)
    tips = [f"{pair.name}: {significant(pair.int8_ms)} ms, {pair.top1:.1f} %" for pair in ours]
    words = "INT8 top-1 on ImageNet by the paper's Table 1 against INT8 latency measured here"
    return Drawing(figure, words, ("accuracies-ours", tips))


def _times(ax: Axes, axis: str) -> None:
    """That axis as speed-ups."""
    ax.grid(axis == "y", axis="y")
    ax.grid(axis == "x", axis="x")
    (ax.set_xlabel if axis == "x" else ax.set_ylabel)("speed-up of INT8 over FP32")
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}\N{MULTIPLICATION SIGN}"))


def _finished(figure: Any, words: str, series: str, shown: Sequence[Pair]) -> Drawing:
    legend(figure)
    tips = [
        f"{pair.name}: {significant(pair.int8_ms)} ms in INT8, {significant(pair.fp32_ms)} ms in FP32, {pair.verdict}"
        for pair in shown
    ]
    return Drawing(figure, words, (series, tips))
