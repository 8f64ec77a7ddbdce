"""The summary of a sweep: a table of its jobs, figures over them, and one page with both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spaceevo.app.artifacts import Folders
from spaceevo.app.config import Config
from spaceevo.atomic import atomic_write, write_parquet
from spaceevo.provenance import matches, read_record
from spaceevo.steps import STEPS
from spaceevo.steps.needs import hyperspace

if TYPE_CHECKING:
    import pandas as pd

    from spaceevo.report.drawing import Drawing
    from spaceevo.space import SearchSpace

#: What a sweep of an entrypoint is about: a column and its words.
MEASURES = {
    "search_space": ("score", "Q-T score"),
    "search_subnet": ("hypervolume", "hypervolume"),
    "pipeline": ("top1", "test top-1 of the largest model, %"),
}
Find = Callable[[str], list[Path]]


@dataclass(frozen=True)
class Job:
    """One combination. ``varied``: what differs among the jobs, by key; ``state``: up to date, done or failed;
    ``error``: in a line, of a failed one."""

    varied: dict[str, str]
    overrides: tuple[str, ...]
    folder: Path
    config: Config | None
    state: str
    error: str | None = None

    @property
    def name(self) -> str:
        """What differs among the jobs, as overrides."""
        return " ".join(f"{key}={value}" for key, value in self.varied.items())

    @property
    def failure(self) -> str:
        """What failed in it, and which it is; an error of a value that differs among the jobs names it already."""
        told = str(self.error)
        at = next((f"{key}={value}: " for key, value in self.varied.items() if told.startswith(f"{key}={value}: ")), "")
        return f"{self.name}: {told.removeprefix(at)}"


def write_summary(config_name: str, jobs: Sequence[Job], folder: Path) -> str:
    """``sweep.csv``, ``sweep.parquet``, ``sweep.html`` and ``sweep-*.png`` in ``folder``.

    Returns:
        What to print: the table, and where the files are.
    """
    import pandas as pd

    from spaceevo.report.drawing import kept, style
    from spaceevo.report.page import render

    keys = list(jobs[0].varied)
    frame = pd.DataFrame([_row(config_name, job) for job in jobs])
    atomic_write(folder / "sweep.csv", frame.to_csv(index=False))
    write_parquet(folder / "sweep.parquet", frame)
    with style():
        drawings = _draw(config_name, keys, frame, jobs)
        svgs = {name: (drawings[name].label, svg) for name, svg in kept(drawings, folder, "sweep-").items()}
    shown = frame.drop(columns="folder")
    failed = [job for job in jobs if job.error is not None]
    page = render("sweep.html", title=config_name, frame=shown.to_dict("records"), keys=keys, svgs=svgs, failed=failed)
    atomic_write(folder / "sweep.html", page)
    return f"{shown.to_string(index=False, na_rep='-', float_format='{:.5g}'.format)}\nsweep: {folder / 'sweep.html'}"


def _row(config_name: str, job: Job) -> dict[str, Any]:
    row: dict[str, Any] = {**job.varied, "state": job.state}
    if job.error is None and job.config is not None:
        row |= _results(config_name, job.config)
    return row | {"folder": str(job.folder)}


def _results(config_name: str, cfg: Config) -> dict[str, Any]:
    """What the job's artifacts say, and the wall time of the steps that made them."""
    find = _finder(cfg)
    found: dict[str, Any] = {}
    if config_name == "search_space" and (paths := find("space.yaml")):
        space = yaml.safe_load(paths[0].read_text())
        found = {"space": space["space"], "score": space["score"], "limits_ms": _listed(space["limits_ms"])}
    elif config_name == "search_subnet" and (paths := find("pareto.yaml")):
        pareto = yaml.safe_load(paths[0].read_text())
        found = {key: pareto[key] for key in ("space", "evaluations", "hypervolume")} | {"front": len(pareto["front"])}
        found["limits_ms"] = _listed(entry["limit_ms"] for entry in pareto["chosen"])
        measure = "top1_val" if pareto["quality"] == "supernet" else "nsr"
        found[measure] = _listed(entry[measure] for entry in pareto["chosen"])
    elif config_name == "pipeline" and (paths := find("models/*/card.json")):
        cards = [json.loads(path.read_text()) for path in paths]
        largest = max(cards, key=lambda card: card["mmacs"])
        found = {"space": largest["space"], "top1": largest["top1_runtime"], "ms": largest["measured_ms"], "models": len(cards)}
    commands = (config_name, f"{config_name} stage={cfg.stage.name}")
    steps = [step for step in STEPS.values() if step.command in commands] or list(STEPS.values())
    records = [record for step in steps if (record := read_record(Path(cfg.out_dir), step.name)) is not None]
    return found | {"wall_s": sum(record["wall_s"] for record in records)}


def _finder(cfg: Config) -> Find:
    """The artifacts a pattern names, from the job's own folder or else the shared one."""

    def find(pattern: str) -> list[Path]:
        found = [(folder, matches(folder, [pattern])) for folder in Folders(cfg).all]
        return next(([folder / path for path in paths] for folder, paths in found if paths), [])

    return find


def _draw(config_name: str, keys: list[str], frame: pd.DataFrame, jobs: Sequence[Job]) -> dict[str, Drawing]:
    from spaceevo.report import search_figures

    drawings = {}
    measure, label = MEASURES.get(config_name, ("wall_s", "wall time, s"))
    if measure in frame and frame[measure].notna().any():
        by = [key for key in keys if key != "seed"]
        drawings["outcomes"] = search_figures.outcomes(frame.dropna(subset=[measure]), by, measure, label)
    spaces = _best_by_device(jobs) if config_name in ("search_space", "pipeline") else {}
    if spaces:
        drawings["types"] = search_figures.block_preferences(spaces)
        drawings["widths"] = search_figures.width_preferences(spaces)
    return drawings


def _best_by_device(jobs: Sequence[Job]) -> dict[str, list[SearchSpace]]:
    """The best 1 % of the spaces that each job tried, by device; of one hyperspace a device, the first job's."""
    import pandas as pd

    from spaceevo.report.data import best_spaces

    found: dict[str, list[SearchSpace]] = {}
    for job in jobs:
        if job.error is None and job.config is not None and (paths := _finder(job.config)("search_space.parquet")):
            hs = hyperspace(job.config)
            known = found.setdefault(job.config.device.name, [])
            if not known or known[0].hyperspace == hs:
                known += best_spaces(pd.read_parquet(paths[0]), hs)
    return found


def _listed(values: Any) -> str:
    return " ".join(f"{value:.4g}" for value in values)
