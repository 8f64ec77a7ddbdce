"""A step's partial work: what a killed run goes on from, and for which config and inputs that is."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from spaceevo.app.artifacts import SPLIT, config_hash, config_subset, partial
from spaceevo.app.config import Config
from spaceevo.atomic import UNFINISHED, write_json
from spaceevo.steps.step import Step

TAG = "made_for.json"
ANEW = "anew.json"  # in a step's partial work: it is made again though it was up to date


def begun_anew(step: Step, cfg: Config) -> bool:
    """Whether a command with ``start_over`` has begun the step and not ended it."""
    return (_partial_of(step, cfg) / ANEW).exists()


def _partial_of(step: Step, cfg: Config) -> Path:
    return Path(cfg.out_dir) / "partial" / step.name


def drop_partial(step: Step, cfg: Config, unless_work: bool = False) -> None:
    """Remove a step's partial work, or, with ``unless_work``, what says of which work it is where there is none."""
    if unless_work and {path.name for path in _partial_of(step, cfg).glob("*")} - {TAG, SPLIT, ANEW}:
        return
    shutil.rmtree(_partial_of(step, cfg), ignore_errors=True)
    with suppress(OSError):
        (Path(cfg.out_dir) / "partial").rmdir()


def open_partial(step: Step, cfg: Config, hashes: dict[str, str]) -> float:
    """Keep the partial work of a killed run of the same step, drop any other.

    Returns:
        When the work that is kept began (seconds since the epoch).
    """
    tag = {"version": step.version, "config": config_hash(config_subset(step, cfg)), "inputs": hashes}
    path = partial(cfg, step.name) / TAG
    try:
        kept = json.loads(path.read_text()) == tag
    except (OSError, ValueError):
        kept = False
    if not kept or cfg.start_over:
        shutil.rmtree(path.parent)
        if cfg.start_over:
            write_json(path.with_name(ANEW), True)
        write_json(path, tag)
    return path.stat().st_mtime


def remove_unfinished(folder: Path, step: Step) -> None:
    """Drop what a kill left of a file in mid-write."""
    for pattern in (*step.outputs, f"provenance/{step.name}.json"):
        for path in folder.glob(str(Path(pattern).parent / f".{Path(pattern).name}{UNFINISHED}")):
            path.unlink(missing_ok=True)
