"""Pictures of what a model says of images: a grid of them, and which classes it takes for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spaceevo.atomic import atomic_write
from spaceevo.report.figures import COLORS, DPI, style

GRID = 48  # images of a grid, at most


def grid(images: Sequence[np.ndarray], titles: Sequence[str], wrong: Sequence[bool]) -> Figure:
    """Images (``[C, S, S]`` uint8), of many some from everywhere, with their ``titles``; those of ``wrong`` ones in another
    colour."""
    chosen = [round(i) for i in np.linspace(0, len(images) - 1, min(len(images), GRID))]
    count = len(chosen)
    columns = min(8, count)
    rows = math.ceil(count / columns)
    with style():
        figure = Figure(figsize=(1.15 * columns, 1.3 * rows), layout="constrained")
        for i, ax in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
            ax.axis("off")
            if i < count:
                ax.imshow(images[chosen[i]].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
                ax.set_title(titles[chosen[i]], fontsize=6, color=COLORS["orange" if wrong[chosen[i]] else "ink"])
    return figure


def confusion_of(labels: Sequence[int], said: Sequence[int], classes: int) -> np.ndarray:
    """How many images of each class (a row) were taken for each (a column): ``[classes, classes]``."""
    from torch import tensor
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return np.asarray(multiclass_confusion_matrix(tensor(said), tensor(labels), classes))


def confusion(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """``counts`` ``[classes, classes]`` as a picture: a row is a class, and what of it was taken for what."""
    classes = len(names)
    side = max(3.0, 0.38 * classes + 1.6)
    with style():
        figure = Figure(figsize=(side, side), layout="constrained")
        ax = figure.subplots()
        ax.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
        ax.grid(False)
        ax.set(xlabel="taken for", ylabel="is", xticks=range(classes), yticks=range(classes))
        ax.set_xticklabels(names, rotation=90, fontsize=7)
        ax.set_yticklabels(names, fontsize=7)
        if classes <= 20:
            for row in range(classes):
                for column in range(classes):
                    share = counts[row, column] / max(1, counts[row].sum())
                    color = COLORS["page"] if share > 0.5 else COLORS["ink"]
                    ax.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=color)
    return figure


def save(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, atomically; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(aside: Path) -> None:
        with style():
            figure.savefig(aside, format="png", dpi=DPI)

    atomic_write(path, write)
    return path
