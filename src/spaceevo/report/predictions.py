"""Pictures of what a model says of images: a grid of them, and which classes it takes for which."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from spaceevo.atomic import atomic_write
from spaceevo.report.drawing import COLORS, WIDTH, Drawing, new, style

GRID = 48  # images of a grid, at most
NUMBERED, NAMED = 12, 24  # classes of a confusion, at most, that has its numbers and its names written in
DPI = 120
SIDE, TITLE, BELOW = 1.05, 0.4, 0.05  # of an image of a grid, inches: itself, above and below it
LETTER, WIDEST = 0.066, 2.5  # of a title, inches: a letter, and its longest line at most


def grid(images: Sequence[np.ndarray], titles: Sequence[str], wrong: Sequence[bool] = (), columns: int = 6) -> Figure:
    """Images (``[C, S, S]`` uint8), of many some from everywhere, with their ``titles``; those of ``wrong`` ones in another
    colour."""
    chosen = [round(i) for i in np.linspace(0, len(images) - 1, min(len(images), GRID))] if images else []
    columns = max(1, min(columns, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    with style():
        longest = max((len(line) for i in chosen for line in titles[i].splitlines()), default=0)
        wide, high = min(max(SIDE, LETTER * longest), WIDEST) + 0.2, TITLE + SIDE + BELOW
        width, height = wide * columns, high * rows
        figure = Figure(figsize=(width, height))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.axis("off")
        for place, i in enumerate(chosen):
            row, column = divmod(place, columns)
            middle, top = wide * (column + 0.5), high * row + TITLE
            image, extent = images[i].transpose(1, 2, 0).squeeze(), (middle - SIDE / 2, middle + SIDE / 2, top + SIDE, top)
            ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            color = COLORS["orange" if wrong and wrong[i] else "ink"]
            ax.text(middle, top - 0.04, titles[i], fontsize=8, color=color, ha="center", va="bottom")
        ax.set(xlim=(0, width), ylim=(height, 0))
    return figure


def confusion_of(labels: Sequence[int], said: Sequence[int], classes: int) -> np.ndarray:
    """How many images of each class (a row) were taken for each (a column): ``[classes, classes]``."""
    from torch import tensor
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return np.asarray(multiclass_confusion_matrix(tensor(said), tensor(labels), classes))


def confusion(counts: np.ndarray, names: Sequence[str]) -> Drawing:
    """``counts`` ``[classes, classes]`` as a picture: a row is a class, and what of it was taken for what."""
    classes = len(names)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    with style():
        figure, ax = new(WIDTH)
        ax.grid(False)
        for row, column in np.argwhere(counts):
            look = dict(fc=COLORS["blue"], alpha=0.08 + 0.32 * shares[row, column], lw=0)
            ax.add_patch(Rectangle((column, row), 1, 1, **look))
            if classes <= NUMBERED:
                ax.text(column + 0.5, row + 0.5, str(counts[row, column]), ha="center", va="center", fontsize=8)
        places, named = np.arange(classes) + 0.5, names
        if classes > NAMED:
            places, named = places[:0], []
        ax.set(xlabel="taken for", ylabel="is", xticks=places, yticks=places, aspect="equal")
        ax.set(xlim=(0, classes), ylim=(classes, 0))
        ax.set_xticklabels(named, rotation=90)
        ax.set_yticklabels(named)
    return Drawing(figure, f"Which of {classes} classes the test images are of, and which they are taken for")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, atomically; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, png(figure))
    return path
