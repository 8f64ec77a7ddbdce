"""From a run folder to ``report.html``: words, tables and figures set into the template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.report import drawing, figures, search_figures
from spaceevo.report.baseline_figures import fronts
from spaceevo.report.data import (
    RunData,
    best_spaces,
    close,
    cloud,
    load_run,
    profiled_blocks,
    table_cells,
    within_limit,
)
from spaceevo.report.figures import significant
from spaceevo.report.latency import held, latencies
from spaceevo.report.predictions import confusion
from spaceevo.report.shipping import advice, candidates, choices
from spaceevo.report.tau_figures import score_against_accuracy, table_against_truth, tau_words
from spaceevo.report.verdict import verdict_sums, verdict_words
from spaceevo.space import SearchSpace

CLOUD = 1000  # random subnets drawn of a space


def build_report(
    run_dir: Path, out: Path, steps: Mapping[str, bool], maker: Callable[[str], str], compare: Sequence[Path] = ()
) -> None:
    """Write ``report.html`` and ``figures/*.png`` into ``out`` from the artifacts in ``out`` or else ``run_dir``.

    ``steps``: the names of those that leave records, in order, and whether each is optional; ``maker``: what to type to make an
    artifact that is missing. The preferences and the models' latencies of the runs ``compare`` are shown beside this run's.
    """
    data = load_run(list(dict.fromkeys((out, run_dir))), steps)
    others = {str(folder): load_run([folder], steps) for folder in compare}
    rows = [*candidates(data.cards), *(row for folder, other in others.items() for row in candidates(other.cards, folder))]
    with drawing.style():
        svgs = drawing.kept(draw(data, others), out / "figures")
    html = render(
        "template.html",
        data=data,
        svgs=svgs,
        lead=lead(data),
        timed=latencies(data.cards, data.predictor, data.hyperspace),
        held=held,
        choices=choices(rows),
        advice=advice,
        heat=[] if data.lut is None else table_cells(data.lut, data.hyperspace, data.space),
        close=close,
        maker=maker,
        total_s=sum(record["wall_s"] for record in data.pipeline.values()),
        verdict_words=verdict_words,
        verdict_sums=verdict_sums,
    )
    atomic_write(out / "report.html", html)


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        significant=significant,
        count=count,
        size=size,
        percent=percent,
        points=points,
        thousands="{:,}".format,
        seconds=seconds,
        within=within_limit,
        tau=tau_words,
    )
    return environment.get_template(template).render(**values)


def draw(data: RunData, others: Mapping[str, RunData] | None = None) -> dict[str, drawing.Drawing]:
    """Every figure that the run has the artifacts of, by name; the preferences of ``others`` (by folder) too."""
    drawings = {}
    recipe = data.records["search_space"]["config"] if "search_space" in data.records else {}
    if data.cards:
        drawings["accuracy"] = figures.accuracy(data.cards, data.subnets)
    first = lead(data)
    if first is not None and first.get("classes", {}).get("confusion"):
        drawings["confusion"] = confusion(np.array(first["classes"]["confusion"]), first["labels"])
    if data.benchmark is not None and len(data.benchmark):
        drawings["prediction"] = figures.prediction(data.benchmark)
    if data.history is not None:
        drawings["evolution"] = search_figures.evolution(data.history, recipe.get("search_space.population", len(data.history)))
        best = {data.identity["device.name"]: best_spaces(data.history, data.hyperspace)}
        for folder, other in (others or {}).items():
            device = other.identity["device.name"]
            assert other.history is not None
            best[folder if device in best else device] = best_spaces(other.history, other.hyperspace)
        drawings["types"] = search_figures.block_preferences(best)
        drawings["widths"] = search_figures.width_preferences(best)
    if data.space is not None:
        drawings["space"] = search_figures.found_space(data.space)
        if data.table is not None and data.search is not None:
            rng = np.random.default_rng(0)
            random = [SearchSpace.sample(data.hyperspace, rng) for _ in range(CLOUD)]
            clouds = [cloud(data.table, spaces, CLOUD, 1) for spaces in ([data.space], random)]
            top = recipe.get("search_space.top", 1)
            drawings["cloud"] = search_figures.cloud(clouds[0], clouds[1], data.search["limits_ms"], top)
    if data.judged is not None and data.taus is not None:
        drawings["tau"] = table_against_truth(data.judged)
    if data.kernels is not None and (data.kernels.kind == "block").any():
        drawings["blocks"] = figures.block_latency(profiled_blocks(data.kernels, data.hyperspace))
    if data.pipeline:
        drawings["time"] = figures.wall_time(data.pipeline)
    if data.baselines is not None:
        drawings |= {
            f"baselines-{told['runtime']}": fronts(data.baselines, told["runtime"]) for told in data.baselines["verdict"]
        }
    if data.trained is not None and data.fig8 is not None:
        drawings["fig8"] = score_against_accuracy(data.trained)
    return drawings


def lead(data: RunData) -> dict[str, Any] | None:
    """The card of the largest exported model (by MMACs): what the page says first."""
    return max(data.cards, key=lambda card: card["mmacs"]) if data.cards else None


def count(value: float) -> str:
    """A count in thousands or millions: 950, 16.5 k, 1.23 M."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{value:g}"


def size(value: float) -> str:
    """Bytes in KiB or MiB."""
    return f"{significant(value / 2**20)} MiB" if value >= 2**20 else f"{significant(value / 2**10)} KiB"


def percent(value: float | None) -> str:
    """``91.67 %``, an en dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:.2f} %"


def points(value: float) -> str:
    """A difference of percentages with its sign: ``+0.25``."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
