"""The report: one self-contained HTML page and PNG figures of what a run folder holds."""

from __future__ import annotations

from pathlib import Path

from spaceevo.app.config import Config


def run(cfg: Config) -> None:
    """``report.html`` and ``figures/*.png`` of the run, whatever it holds so far."""
    from spaceevo.app.steps import overrides
    from spaceevo.report.page import build_report

    build_report(Path(cfg.run_dir), Path(cfg.out_dir), overrides(cfg), [Path(other) for other in cfg.report.compare])
