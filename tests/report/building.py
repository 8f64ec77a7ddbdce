"""The report of a run folder, without a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spaceevo.app.plan import producer_of
from spaceevo.report.page import build_report
from spaceevo.steps import STEPS

#: The steps that leave records, and whether each is optional.
SHOWN = {step.name: step.optional for step in STEPS.values() if not step.lenient}


def build(run_dir: Path, out: Path, overrides: Sequence[str] | None = None, compare: Sequence[Path] = ()) -> None:
    """``build_report`` with the steps of the product; ``overrides``: of the commands that it names."""
    given = [f"run_dir={run_dir}"] if overrides is None else list(overrides)

    def maker(pattern: str) -> str:
        return " ".join(["python -m", f"spaceevo.{producer_of(pattern).command}", *given])

    build_report(run_dir, out, SHOWN, maker, compare)
