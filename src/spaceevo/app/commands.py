"""Every command, and what it runs: ``python -m spaceevo.<command>`` and ``spaceevo <command>`` are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spaceevo.app.artifacts import Folders
from spaceevo.app.config import Config
from spaceevo.app.place import check_folder
from spaceevo.app.run import execute, main_of, run_pipeline
from spaceevo.steps import COMMANDS as OTHERS
from spaceevo.steps import STEPS
from spaceevo.steps.folder import holder_of, say


def _train(cfg: Config) -> None:
    main_of(cfg.stage.name)(cfg)


def _baseline(cfg: Config) -> None:
    """Train and compare what is not up to date, draw the report with it, and print the verdict last."""
    import yaml

    from spaceevo.report.verdict import verdict_sums, verdict_words

    if execute("baseline", cfg):
        execute("report", cfg)
    folder = holder_of("baselines.yaml", *Folders(cfg).all)
    found = yaml.safe_load((folder / "baselines.yaml").read_text())
    for line in [*verdict_words(found), *verdict_sums(found)]:
        say(f"baseline: {line}")


def _written(run: Callable[[Any], object]) -> Callable[[Any], object]:
    """What writes to ``out_dir`` alone, once that is known to be a folder."""

    def checked(cfg: Any) -> object:
        check_folder("out_dir", cfg.out_dir)
        return run(cfg)

    return checked


COMMANDS: dict[str, Callable[[Any], object]] = {
    "pipeline": run_pipeline,
    **{step.command: main_of(step.name) for step in STEPS.values() if " " not in step.command},
    "train": _train,
    "baseline": _baseline,
    **{name: _written(command.run) if name in ("quantize", "describe") else command.run for name, command in OTHERS.items()},
}
