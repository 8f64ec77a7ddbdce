"""Every figure's style, and what it becomes: a PNG, and an SVG of a page whose colours follow its theme."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spaceevo.atomic import atomic_write

#: Colours by name; the page has a CSS variable for each, with a value of its own in the dark theme.
COLORS = {
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d8dde3",
    "faint": "#aab4bf",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#00875f",
    "page": "#fefefe",
}
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.2,
    "text.color": COLORS["ink"],
    "text.parse_math": False,
    "axes.labelcolor": COLORS["ink"],
    "axes.edgecolor": COLORS["faint"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLORS["faint"],
    "ytick.color": COLORS["faint"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["muted"],
    "figure.facecolor": COLORS["page"],
    "axes.facecolor": "none",
    "svg.fonttype": "none",
}
WIDTH, HEIGHT, DPI = 4.8, 3.3, 200
SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True)
class Drawing:
    """A figure, what it shows in words, and the tooltips of a series' marks (by the series' id)."""

    figure: Figure
    label: str
    tooltips: tuple[str, Sequence[str]] = ("", ())


def style() -> AbstractContextManager[None]:
    """The context in which figures are drawn and saved."""
    defaults: dict[Any, Any] = dict(mpl.rcParamsDefault)
    return mpl.rc_context({**defaults, **STYLE, "backend": "agg"})


def save_png(drawing: Drawing, path: Path) -> None:
    """The figure at 200 dots per inch."""
    atomic_write(path, lambda aside: drawing.figure.savefig(aside, dpi=DPI, metadata={"Software": None}))


def kept(drawings: Mapping[str, Drawing], folder: Path, prefix: str = "") -> dict[str, str]:
    """The figures by name, each saved as ``<prefix><name>.png`` into ``folder`` and as :func:`to_svg` gives it."""
    for name, drawing in drawings.items():
        save_png(drawing, folder / f"{prefix}{name}.png")
    return {name: to_svg(drawing, name) for name, drawing in drawings.items()}


def to_svg(drawing: Drawing, name: str) -> str:
    """The figure as an ``<svg>`` element to set into HTML: text stays text, series keep their ids, equal input gives
    equal bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        drawing.figure.savefig(buffer, format="svg", transparent=True)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        if re.fullmatch(r"[a-z0-9]+_\d+", element.get("id", "")):  # matplotlib's own, the same in every figure
            del element.attrib["id"]
        if "style" in element.attrib:
            element.set("style", _themed(element.attrib["style"]))
    series, texts = drawing.tooltips
    for group in root.iter(f"{{{SVG}}}g"):
        if series and group.get("id") == series:
            for mark, text in zip(group.iter(f"{{{SVG}}}use"), texts, strict=True):
                ElementTree.SubElement(mark, f"{{{SVG}}}title").text = text
    for key in ("width", "height", "version"):
        del root.attrib[key]
    root.set("role", "img")
    root.set("aria-label", drawing.label)
    return ElementTree.tostring(root, encoding="unicode")


def _themed(css: str) -> str:
    for name, value in COLORS.items():
        css = css.replace(value, f"var(--{name})")
    return css


def new(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def legend(figure: Figure, columns: int = 2) -> None:
    """The legend of all axes, above them."""
    figure.legend(loc="outside upper left", ncols=columns)
