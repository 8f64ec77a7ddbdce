"""Whether the scores tell the truth: what was predicted against what was measured."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spaceevo.report.drawing import COLORS, Drawing, legend, new

SERIES, FORMS = ("blue", "orange", "green", "ink"), "osD^"  # of a resolution; another form where the colours are used up


def table_against_truth(frame: pd.DataFrame) -> Drawing:
    """Cross entropy of the subnets of ``tau.parquet`` (of older runs the INT8 top-1) against the NSR sum that the table
    predicts, a colour a resolution."""
    figure, ax = new()
    truth, what = ("loss_search", "cross entropy") if "loss_search" in frame else ("top1_search", "INT8 top-1")
    for i, (resolution, rows) in enumerate(frame.groupby("resolution")):
        color, form = COLORS[SERIES[i % len(SERIES)]], FORMS[i // len(SERIES) % len(FORMS)]
        ax.plot(rows.nsr, rows[truth], form, ms=4.5, mew=0, c=color, alpha=0.75, label=f"{resolution} pixels")
        ax.lines[-1].set_gid(f"tau-{resolution}")
    ax.invert_xaxis()
    if truth == "loss_search":
        ax.invert_yaxis()
    unit = "better upwards" if truth == "loss_search" else "%"
    ax.set(xlabel="predicted NSR sum, better to the right", ylabel=f"{what}, {unit}")
    legend(figure, 3)
    return Drawing(
        figure, f"{what[0].upper()}{what[1:]} of random subnets against the NSR sum that the accuracy table predicts"
    )


def score_against_accuracy(frame: pd.DataFrame) -> Drawing:
    """Mean INT8 top-1 of the best subnets of the spaces of ``fig8_qt.parquet`` against their Q-T scores."""
    figure, ax = new()
    rows = frame.sort_values("score")
    ax.plot(rows.score, rows.top1, "o", ms=6, mew=0, c=COLORS["blue"])
    ax.lines[-1].set_gid("fig8-spaces")
    ax.set(xlabel="Q-T score, better to the right", ylabel="mean INT8 top-1 within the limits, %")
    tips = [f"{row.space}: Q-T score {row.score:.4g}, {row.top1:.2f} %" for row in rows.itertuples()]
    return Drawing(figure, "INT8 accuracy of random spaces once trained against their Q-T scores", ("fig8-spaces", tips))


def tau_words(tau: dict[str, Any]) -> str:
    """A tau with its interval: ``0.53 (95 %: 0.38 to 0.66)``."""
    if tau["tau"] is None:
        return "none (all are equal)"
    return f"{tau['tau']:.2f} (95 %: {tau['low']:.2f} to {tau['high']:.2f})".replace("-", "\N{MINUS SIGN}")
