"""Run a step, or all of them: only what is not up to date, from where a killed one stopped."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from spaceevo.app.artifacts import (
    Folders,
    config_hash,
    config_subset,
    input_hashes,
    is_current,
    outdated,
    partial,
    recorded,
)
from spaceevo.app.claim import claim
from spaceevo.app.config import Config, check_images, check_judges
from spaceevo.app.plan import check_device, command_for, inputs_of, needed_steps, pipeline_command, producer_of
from spaceevo.app.upstream import check_makers, step_images
from spaceevo.atomic import UNFINISHED, write_json
from spaceevo.errors import UserError
from spaceevo.provenance import Record, matches, read_record
from spaceevo.steps import STEPS
from spaceevo.steps.folder import Folder, holder_of, say
from spaceevo.steps.step import STEERED, Step

TAG = "made_for.json"


def execute(step_name: str, cfg: Config) -> bool:
    """Run one step, unless it is up to date; BKD trains a missing teacher first.

    Returns:
        Whether it ran.

    Raises:
        UserError: another configuration's run folder, an input that is missing, changed or of another config.
    """
    step = STEPS[step_name]
    _require_latency(step, cfg)
    _require_images(step, cfg)
    claim(step, cfg)
    folders = Folders(cfg)
    if step.name == "bkd" and not any((folder / "teacher.ckpt").exists() for folder in folders.all):
        say(f"bkd: no {folders.out / 'teacher.ckpt'} yet, training the teacher first")
        _run(STEPS["teacher"], cfg, {})
    hashes = input_hashes(step, cfg, folders)
    if not step.lenient:
        check_makers(step, cfg, folders)
    elif not hashes:
        raise UserError(f"run_dir={cfg.run_dir}: holds nothing to show; make it with `{pipeline_command(cfg)}`")
    held = folders.holder(step)
    if held is not None and is_current(step, cfg, held[1], held[0], hashes):
        _drop_partial(step, cfg)
        say(f"{step.name}: up to date ({held[0]})")
        return False
    _say_outdated(step, held)
    _run(step, cfg, hashes)
    return True


def is_done(config_name: str, cfg: Config) -> bool:
    """Whether the entrypoint ``config_name`` would find nothing to do."""
    if cfg.start_over:
        return False
    commands = (config_name, f"{config_name} stage={cfg.stage.name}")
    steps = [step for step in STEPS.values() if step.command in commands] or needed_steps(cfg)
    folders = Folders(cfg)
    try:
        for step in steps:
            hashes = input_hashes(step, cfg, folders)
            check_makers(step, cfg, folders)
            held = folders.holder(step)
            if held is None or not is_current(step, cfg, held[1], held[0], hashes):
                return False
    except UserError:
        return False
    return True


def run_pipeline(cfg: Config) -> bool:
    """Every step in order; a step whose config or inputs have not changed is left as it is.

    Returns:
        Whether any step ran.
    """
    steps = needed_steps(cfg)
    for step in steps:
        _require_latency(step, cfg)
        _require_images(step, cfg)
    claim(steps[0], cfg)
    ran = []
    for step in steps:
        folders = Folders(cfg)
        hashes = input_hashes(step, cfg, folders)
        held = folders.holder(step)
        if held is not None and is_current(step, cfg, held[1], held[0], hashes):
            _drop_partial(step, cfg)
            continue
        say(f"{step.name}: {step.summary}")
        _say_outdated(step, held)
        _run(step, cfg, hashes)
        ran.append(step.name)
    report = holder_of("report.html", *Folders(cfg).all) / "report.html"
    if not ran:
        say(f"nothing to do: every step is up to date; report at {report}")
    else:
        records = [record for step in steps if (record := read_record(Path(cfg.out_dir), step.name)) is not None]
        minutes, peak = sum(r["wall_s"] for r in records) / 60, max(r["peak_rss_mib"] for r in records)
        say(f"all steps took {minutes:.1f} minutes and at most {peak} MiB of memory")
        say(f"done ({', '.join(ran)}); report at {report}")
    return bool(ran)


def _require_latency(step: Step, cfg: Config) -> None:
    reason = check_device(step, cfg)
    if reason is not None:
        raise UserError(reason)


def _require_images(step: Step, cfg: Config) -> None:
    if "data.image_size" in step.keys:
        check_images(cfg)
    if {"search_subnet", *STEERED} & set(step.keys):
        check_judges(cfg)


def _say_outdated(step: Step, held: tuple[Path, Record] | None) -> None:
    if held is not None and (old := outdated(step, held[1])) is not None:
        say(f"{step.name}: runs again, since what {held[0]} holds was {old}")


def _run(step: Step, cfg: Config, hashes: dict[str, str]) -> None:
    out = Path(cfg.out_dir)
    since = _open_partial(step, cfg, hashes)
    _remove_unfinished(out, step)
    with recorded(step, cfg, out, hashes, since):
        step.run(folder_of(step, cfg), cfg)
    _drop_partial(step, cfg)


def folder_of(step: Step, cfg: Config) -> Folder:
    """The run folder as ``step`` sees it under ``cfg``; it can be sent to another process."""
    folders = Folders(cfg)
    return Folder(
        step=step.name,
        reads=inputs_of(step, cfg),
        out=folders.out,
        shared=folders.shared,
        images=functools.partial(step_images, step.name, cfg),
        maker=functools.partial(_maker, cfg),
        steps={each.name: each.optional for each in STEPS.values() if not each.lenient},
        subset=functools.partial(_subset, step.name, cfg),
        records=functools.partial(_records, cfg),
        execute=functools.partial(_execute, cfg),
    )


def _maker(cfg: Config, pattern: str) -> str:
    return command_for(producer_of(pattern), cfg)


def _subset(step_name: str, cfg: Config, keys: tuple[str, ...]) -> dict[str, Any]:
    return config_subset(replace(STEPS[step_name], keys=keys), cfg)


def _records(cfg: Config) -> list[Record]:
    made = (Folders(cfg).holder(each) for each in needed_steps(cfg) if not each.lenient and not each.optional)
    return [held[1] for held in made if held is not None]


def _execute(cfg: Config, step_name: str, changes: dict[str, Any]) -> bool:
    return execute(step_name, replace(cfg, **changes))


def _drop_partial(step: Step, cfg: Config) -> None:
    shutil.rmtree(Path(cfg.out_dir) / "partial" / step.name, ignore_errors=True)
    with suppress(OSError):
        (Path(cfg.out_dir) / "partial").rmdir()


def _open_partial(step: Step, cfg: Config, hashes: dict[str, str]) -> float:
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
    if not kept:
        shutil.rmtree(path.parent)
        write_json(path, tag)
    return path.stat().st_mtime


def _remove_unfinished(folder: Path, step: Step) -> None:
    """Drop what a kill left of a file in mid-write."""
    for pattern in (*step.outputs, "provenance/*"):
        for path in folder.glob(str(Path(pattern).parent / UNFINISHED)):
            path.unlink(missing_ok=True)


def main_of(step_name: str) -> Callable[[Config], None]:
    """The body of an entrypoint that runs one step."""

    def run(cfg: Config) -> None:
        if execute(step_name, cfg):
            for path in matches(Path(cfg.out_dir), STEPS[step_name].outputs)[:12]:
                say(f"{step_name}: {Path(cfg.out_dir) / path}")

    run.__module__ = sys.modules[__name__].__name__
    return run
