"""``python -m spaceevo.report``: draw what the run folder holds as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spaceevo.provenance import FIG8, KERNELS, PREDICTOR, TAU
from spaceevo.settings import setting
from spaceevo.steps.folder import Folder
from spaceevo.steps.step import EXAMPLES, MISTAKES, Step


@dataclass
class ReportConfig:
    """The page of a run."""

    compare: list[str] = setting("run folders, of other devices, whose preferences and latencies are shown beside this run's")


class Needs(Protocol):
    """What it reads of the config."""

    report: ReportConfig


def run(folder: Folder, cfg: Needs) -> None:
    """``report.html`` and ``figures/*.png`` of the run, whatever it holds so far."""
    from spaceevo.report.page import build_report

    build_report(folder.shared, folder.out, folder.steps, folder.maker, [Path(other) for other in cfg.report.compare])


STEP = Step(
    "report",
    "report",
    "draws what the run folder holds as one HTML page",
    ("report",),
    (
        KERNELS,
        "latency/host.json",
        PREDICTOR,
        "latency/predictor_scores.json",
        "lut.parquet",
        "space.yaml",
        "search_space.parquet",
        TAU,
        "tau.yaml",
        "subnets.parquet",
        "pareto.yaml",
        "models/*/card.json",
        f"models/*/{MISTAKES}",
        EXAMPLES,
        "benchmark.parquet",
        "baselines.yaml",
        "finetuned/*/card.json",
        FIG8,
        "fig8_qt.yaml",
    ),
    ("report.html", "figures/*.png"),
    run,
    lenient=True,
    examples=("run_dir=runs/demo", "run_dir=runs/host report.compare=[runs/pixel4]"),
)
