"""Figures of the searches: the evolution, the found space within its hyperspace and its subnets, preferences of devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from spaceevo.report.data import Cloud
from spaceevo.report.drawing import COLORS, WIDTH, Drawing, legend, new
from spaceevo.space import SearchSpace

SPREAD = (0.1, 0.9)  # the quantiles between which most of a population lies
SERIES = ("blue", "orange", "green", "ink")  # one a device
FULL_SQUARE = 11.0  # points wide: chosen by every space


def evolution(history: pd.DataFrame, population: int) -> Drawing:
    """Q-T score of every search space in order of birth, the best so far, and the spread of the living: the last
    ``population`` born."""
    figure, ax = new()
    rows = history.sort_values("birth")
    living = rows.score.rolling(population, min_periods=1)
    low, high = (living.quantile(q) for q in SPREAD)
    label = "population, 10\N{EN DASH}90 %"
    band = ax.fill_between(rows.birth, low, high, fc=COLORS["green"], alpha=0.22, lw=0, label=label)
    band.set_gid("qt-spread")
    known = {"random": ("random", "faint"), "type": ("block type mutated", "blue"), "width": ("width window mutated", "orange")}
    for mutation, some in history.groupby("mutation", sort=False):
        label, color = known.get(str(mutation), (str(mutation), "ink"))
        ax.plot(some.birth, some.score, "o", ms=3, mew=0, c=COLORS[color], alpha=0.6, label=label)
        ax.lines[-1].set_gid(f"qt-{mutation}")
    ax.plot(rows.birth, living.median(), c=COLORS["green"], lw=1.3, label="population, median")
    ax.lines[-1].set_gid("qt-median")
    ax.plot(rows.birth, rows.score.cummax(), c=COLORS["ink"], lw=1.3, drawstyle="steps-post", label="best so far")
    ax.lines[-1].set_gid("qt-best")
    ax.set(xlabel="search space, in order of birth", ylabel="Q-T score")
    legend(figure, 3)
    return Drawing(figure, "Q-T score of the search spaces over the evolution, and the spread of the population")


def found_space(space: SearchSpace) -> Drawing:
    """Every stage's widths and block types in the hyperspace, and which were chosen, with the type's choices."""
    stages, hs = space.stages, space.hyperspace
    figure = Figure(figsize=(WIDTH, 1.45 + 0.46 * len(stages)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.9, 1), sharey=True)
    for i, (stage, spec) in enumerate(zip(stages, hs.stages, strict=True)):
        _chosen(left, spec.widths, stage.widths, i, f"space-{stage.name}", "window")
        _chosen(right, spec.types, [space.types[i]], i, f"space-{stage.name}-types", "chosen")
        expands = _listed(expand for expand in stage.block.expands if expand is not None)
        words = [stage.block.type, f"k {_listed(stage.block.kernels)}", f"e {expands}" if expands else ""]
        words += [f"d {_listed(stage.depths)}", f"w {_listed(stage.widths)}"]
        text = " · ".join(filter(None, words))
        look: dict[str, Any] = dict(transform=left.get_yaxis_transform(), va="bottom", fontsize=8, gid=f"space-{stage.name}")
        left.text(0.01, i - 0.22, text, **look).set_in_layout(False)
    every = sorted({width for spec in hs.stages for width in spec.widths})
    left.set_xscale("log")
    left.set_xlim(every[0] / 1.12, every[-1] * 1.12)
    doubled = [every[0] * 2**n for n in range(20) if every[0] * 2**n <= every[-1]]
    left.xaxis.set(major_locator=FixedLocator(doubled), minor_locator=NullLocator(), major_formatter=FuncFormatter(_number))
    _stage_axis(left, len(stages))
    _type_axis(right, [block.type for block in hs.blocks])
    left.set(xlabel="width, channels")
    right.grid(False)
    right.tick_params(length=0, labelleft=False)
    right.spines["left"].set_visible(False)
    return Drawing(figure, f"The found space {space} stage by stage within its hyperspace")


def cloud(found: Cloud, other: Cloud, limits: Sequence[float], top: int) -> Drawing:
    """NSR sum against latency of random subnets of the found space and of the whole hyperspace, and the ``top`` best of
    the found space within each limit; limits that every subnet keeps by far are out of the picture."""
    figure, ax = new()
    ms = np.concatenate([found.ms, other.ms])
    margin = 0.05 * float(np.ptp(ms))
    kinds = ("hyperspace", "of the hyperspace", other, "faint"), ("space", "of the found space", found, "blue")
    for name, label, points, color in kinds:
        ax.plot(points.ms, points.nsr, "o", ms=2.6, mew=0, c=COLORS[color], alpha=0.5, label=f"random subnets {label}")
        ax.lines[-1].set_gid(f"cloud-{name}")
    best: set[int] = set()
    for i, limit in enumerate(limits):
        within = np.flatnonzero(found.ms <= limit)
        best |= set(within[np.argsort(found.nsr[within], kind="stable")[:top]].tolist())
        if limit <= ms.max() + margin:
            line = ax.axvline(limit, c=COLORS["muted"], lw=1, ls=(0, (4, 3)), label=None if i else "latency limit")
            line.set_gid(f"cloud-limit-{i}")
    rows = sorted(best)
    ax.plot(found.ms[rows], found.nsr[rows], "o", ms=4, mew=0, c=COLORS["orange"], label=f"best {top} within a limit")
    ax.lines[-1].set_gid("cloud-best")
    ax.set_xlim(ms.min() - margin, ms.max() + margin)
    ax.invert_yaxis()
    ax.set(xlabel="predicted latency, ms", ylabel="NSR sum, better upwards")
    legend(figure)
    return Drawing(figure, "Latency and NSR of random subnets of the found space against those of the hyperspace")


def block_preferences(spaces: Mapping[str, Sequence[SearchSpace]]) -> Drawing:
    """For each device, how many of its best spaces have each block type in each stage, by the squares' areas."""
    names = list(dict.fromkeys(block.type for some in spaces.values() for block in some[0].hyperspace.blocks))
    depth = max(len(some[0].stages) for some in spaces.values())
    columns = min(2, len(spaces))
    rows = -(-len(spaces) // columns)
    size = (WIDTH, 0.35 + rows * (1.25 + 0.27 * depth))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax, (device, some) in zip(grid, spaces.items(), strict=False):
        for stage, spec in enumerate(some[0].hyperspace.stages):
            possible = [names.index(some[0].hyperspace.blocks[t].type) for t in spec.types]
            ax.plot(possible, [stage] * len(possible), "s", ms=2.5, mew=0, c=COLORS["faint"])
            ax.lines[-1].set_gid(f"prefers-{device}-stage{stage + 1}-possible")
            chosen = pd.Series([space.stages[stage].block.type for space in some]).value_counts(normalize=True)
            ax.scatter(
                [names.index(str(name)) for name in chosen.index],
                [stage] * len(chosen),
                s=FULL_SQUARE**2 * chosen,
                marker="s",
                lw=0,
                c=COLORS["blue"],
                zorder=3,
                gid=f"prefers-{device}-stage{stage + 1}",
            )
        ax.set_title(f"{device} ({len(some)} space{'s' if len(some) > 1 else ''})", fontsize=8.5)
        _stage_axis(ax, depth)
        _type_axis(ax, names)
    for ax in grid[len(spaces) :]:
        ax.set_axis_off()
    return Drawing(figure, f"Block types of the best spaces by stage on {', '.join(spaces)}")


def width_preferences(spaces: Mapping[str, Sequence[SearchSpace]]) -> Drawing:
    """For each device and stage, where the best spaces' width windows lie between the narrowest (0) and the widest (1)."""
    depth = max(len(some[0].stages) for some in spaces.values())
    figure, ax = new(1.1 + 0.36 * depth)
    for i, (device, some) in enumerate(spaces.items()):
        color = COLORS[SERIES[i % len(SERIES)]]
        specs = some[0].hyperspace.stages
        at = np.array([[w / max(1, spec.windows - 1) for w, spec in zip(space.windows, specs, strict=True)] for space in some])
        stages = np.arange(len(specs)) + 0.22 * (i - (len(spaces) - 1) / 2)
        low, high = np.quantile(at, SPREAD, axis=0)
        ax.hlines(stages, low, high, color=color, lw=2, alpha=0.45)
        look: dict[str, Any] = dict(ms=6, mew=0.8, mec=COLORS["page"], c=color, zorder=3)
        ax.plot(at.mean(0), stages, "o", label=f"{device}: mean, 10\N{EN DASH}90 %", **cast(Any, look))
        ax.lines[-1].set_gid(f"widths-{device}")
    _stage_axis(ax, depth)
    ax.set(xlabel="width window, from narrowest (0) to widest (1)", xlim=(-0.04, 1.04))
    legend(figure)
    return Drawing(figure, f"Width windows of the best spaces by stage on {', '.join(spaces)}")


def outcomes(frame: pd.DataFrame, by: Sequence[str], measure: str, label: str) -> Drawing:
    """A row a combination of the sweep, a dot a job, and their mean."""
    groups = list(frame.groupby(list(by), sort=False)) if by else [((), frame)]
    figure, ax = new(0.95 + 0.4 * len(groups))
    for i, (_, rows) in enumerate(groups):
        ax.plot(rows[measure], [i] * len(rows), "o", ms=5, mew=0, c=COLORS["blue"], alpha=0.6, label=None if i else "job")
        ax.lines[-1].set_gid(f"sweep-{i}")
        ax.plot([rows[measure].mean()], [i], "|", ms=14, mew=2.2, c=COLORS["orange"], label=None if i else "mean")
    words = ["\n".join(map(str, key)) if by else "all" for key, _ in groups]
    ax.set_yticks(range(len(groups)), words, fontsize=8)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=label)
    legend(figure)
    return Drawing(figure, f"{label} of the sweep's jobs")


def _chosen(ax: Axes, possible: Sequence[int], chosen: Sequence[int], row: int, gid: str, word: str) -> None:
    """Grey squares for what was possible, blue ones for what was chosen."""
    ax.plot(possible, [row] * len(possible), "s", ms=5, mew=0, c=COLORS["faint"], alpha=0.55)
    ax.lines[-1].set_gid(f"{gid}-all")
    ax.plot(chosen, [row] * len(chosen), "s-", ms=6.5, lw=3, mew=0, c=COLORS["blue"])
    ax.lines[-1].set_gid(f"{gid}-{word}")


def _stage_axis(ax: Axes, stages: int) -> None:
    ax.set_yticks(range(stages), [f"stage {i + 1}" for i in range(stages)])
    ax.set_ylim(stages - 0.6, -0.75)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)


def _type_axis(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.grid(False, axis="x")
    ax.tick_params(axis="x", length=0)


def _listed(values: Iterable[float]) -> str:
    """Up to three values, or the first and last of more."""
    texts = [f"{value:g}" for value in values]
    return ",".join(texts) if len(texts) <= 3 else f"{texts[0]}\N{EN DASH}{texts[-1]}"


def _number(value: float, _: int) -> str:
    return f"{value:g}"
