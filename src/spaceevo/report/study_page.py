"""From the rows of a study of quantization to its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaceevo.atomic import atomic_write
from spaceevo.deploy.studied import MODELS, OPS, WIDTHS
from spaceevo.report import drawing, study_figures
from spaceevo.report.page import render
from spaceevo.report.studied import pairs, words_of_models, words_of_ops

if TYPE_CHECKING:
    import pandas as pd


def build_study(frame: pd.DataFrame, host: Mapping[str, Any], out: Path) -> None:
    """Write ``study.html`` and ``figures/*.png`` into ``out`` from a study's rows and what is told of the machine (``cpu``,
    ``flags``, ``before``, ...); the same rows give the same bytes."""
    found = pairs(frame)
    ops, widths, models = ([pair for pair in found if pair.figure == figure] for figure in (OPS, WIDTHS, MODELS))
    with drawing.style():
        drawn = dict(
            ops=study_figures.op_speedups(ops),
            widths=study_figures.width_speedups(widths),
            models=study_figures.model_latencies(models) if models else None,
            accuracies=study_figures.model_accuracies(models),
        )
        svgs = drawing.kept({name: one for name, one in drawn.items() if one is not None}, out / "figures")
    html = render(
        "study.html",
        host=host,
        ops=ops,
        widths=widths,
        models=models,
        svgs=svgs,
        words_of_ops=words_of_ops(found),
        words_of_models=words_of_models(found),
    )
    atomic_write(out / "study.html", html)
