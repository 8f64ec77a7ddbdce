"""Run a step, or all of them: only what is not up to date, from where a killed one stopped."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from spaceevo.app.ahead import check_config, check_machine
from spaceevo.app.artifacts import (
    Folders,
    config_subset,
    input_hashes,
    is_current,
    outdated,
    recorded,
)
from spaceevo.app.aside import drop_aside, set_aside
from spaceevo.app.claim import check_owner, claimed
from spaceevo.app.config import Config
from spaceevo.app.lock import locked
from spaceevo.app.partial import begun_anew, drop_partial, open_partial, remove_unfinished
from spaceevo.app.plan import command_for, inputs_of, needed_steps, pipeline_command, producer_of
from spaceevo.app.upstream import check_makers, step_images
from spaceevo.errors import UserError
from spaceevo.provenance import Record, matches, read_record
from spaceevo.steps import STEPS
from spaceevo.steps.folder import Folder, holder_of, say
from spaceevo.steps.step import Step


def execute(step_name: str, cfg: Config) -> bool:
    """Run one step, unless it is up to date; BKD trains a missing teacher first. With ``start_over`` it begins anew, and what
    was made from it follows.

    Returns:
        Whether it ran.

    Raises:
        UserError: another configuration's run folder, an input that is missing, changed or of another config.
    """
    step = STEPS[step_name]
    check_config([step], cfg)
    if step.lenient:
        return _execute(step, cfg)
    with locked(Path(cfg.out_dir)):
        check_owner(cfg)
        ran = _execute(step, cfg)
        for follower in following(step, cfg) if cfg.start_over else ():
            _execute(follower, replace(cfg, start_over=False))
        return ran


def _execute(step: Step, cfg: Config) -> bool:
    folders = Folders(cfg)
    first = step.name == "bkd" and not any((folder / "teacher.ckpt").exists() for folder in folders.all)
    if first:
        check_machine([STEPS["teacher"], step], cfg)
        say(f"bkd: no {folders.out / 'teacher.ckpt'} yet, training the teacher first")
        with claimed(_named(STEPS["teacher"]), cfg):
            _run(STEPS["teacher"], cfg, {})
    hashes = input_hashes(step, cfg, folders)
    if not step.lenient:
        check_makers(step, cfg, folders)
    elif not hashes:
        raise UserError(f"run_dir={cfg.run_dir}: holds nothing to show; make it with `{pipeline_command(cfg)}`")
    held = folders.holder(step)
    if not cfg.start_over and _is_made(step, cfg, held, hashes):
        drop_partial(step, cfg)
        say(f"{step.name}: up to date ({held[0] if held else folders.out})")
        return False
    _say_outdated(step, held)
    if step.lenient:
        _run(step, cfg, hashes)
        return True
    if not first:
        check_machine([step], cfg)
    with claimed(_named(step), cfg):
        _run(step, cfg, hashes)
    return True


def _named(step: Step) -> str:
    """The command of a step as a folder's name."""
    return step.command.replace(" stage=", "_")


def following(step: Step, cfg: Config) -> list[Step]:
    """The steps whose results, of this run folder, were made from those of ``step``, in order."""
    after = {step.name}
    for other in STEPS.values():
        if not other.optional and any(producer_of(pattern).name in after for pattern in inputs_of(other, cfg)):
            after.add(other.name)
    out = Path(cfg.out_dir)
    return [other for other in STEPS.values() if other.name in after - {step.name} and read_record(out, other.name)]


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
            if not _is_made(step, cfg, held, hashes):
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
    check_config(steps, cfg)
    with locked(Path(cfg.out_dir)):
        if cfg.start_over:
            check_machine(steps, cfg)
            set_aside(Path(cfg.out_dir))
            cfg = replace(cfg, start_over=False)
        check_owner(cfg)
        ran = _run_all(steps, cfg)
        drop_aside(Path(cfg.out_dir))
    _say_done(steps, ran, cfg)
    return bool(ran)


def _run_all(steps: list[Step], cfg: Config) -> list[str]:
    """The names of those that ran, the others were up to date."""
    ran: list[str] = []
    with ExitStack() as stack:
        for i, step in enumerate(steps):
            folders = Folders(cfg)
            hashes = input_hashes(step, cfg, folders)
            held = folders.holder(step)
            if _is_made(step, cfg, held, hashes):
                drop_partial(step, cfg)
                continue
            if not ran:
                check_machine(steps[i:], cfg)
                stack.enter_context(claimed("pipeline", cfg))
            say(f"{step.name}: {step.summary}")
            _say_outdated(step, held)
            _run(step, cfg, hashes)
            ran.append(step.name)
    return ran


def _say_done(steps: list[Step], ran: list[str], cfg: Config) -> None:
    report = holder_of("report.html", *Folders(cfg).all) / "report.html"
    if not ran:
        say(f"nothing to do: every step is up to date; report at {report}")
    else:
        records = [record for step in steps if (record := read_record(Path(cfg.out_dir), step.name)) is not None]
        minutes, peak = sum(r["wall_s"] for r in records) / 60, max(r["peak_rss_mib"] for r in records)
        say(f"all steps took {minutes:.1f} minutes and at most {peak} MiB of memory")
        say(f"done ({', '.join(ran)}); report at {report}")


def _is_made(step: Step, cfg: Config, held: tuple[Path, Record] | None, hashes: dict[str, str]) -> bool:
    """Whether what ``held`` has of a step is what it would make, and nobody has begun to make that anew."""
    return held is not None and not begun_anew(step, cfg) and is_current(step, cfg, held[1], held[0], hashes)


def _say_outdated(step: Step, held: tuple[Path, Record] | None) -> None:
    if held is not None and (old := outdated(step, held[1])) is not None:
        say(f"{step.name}: runs again, since what {held[0]} holds was {old}")


def _run(step: Step, cfg: Config, hashes: dict[str, str]) -> None:
    out = Path(cfg.out_dir)
    since = open_partial(step, cfg, hashes)
    remove_unfinished(out, step)
    try:
        with recorded(step, cfg, out, hashes, since):
            step.run(folder_of(step, cfg), cfg)
    except UserError:
        drop_partial(step, cfg, unless_work=True)
        raise
    drop_partial(step, cfg)


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
        execute=functools.partial(_execute_changed, cfg),
    )


def _maker(cfg: Config, pattern: str) -> str:
    return command_for(producer_of(pattern), cfg)


def _subset(step_name: str, cfg: Config, keys: tuple[str, ...]) -> dict[str, Any]:
    return config_subset(replace(STEPS[step_name], keys=keys), cfg)


def _records(cfg: Config) -> list[Record]:
    made = (Folders(cfg).holder(each) for each in needed_steps(cfg) if not each.lenient and not each.optional)
    return [held[1] for held in made if held is not None]


def _execute_changed(cfg: Config, step_name: str, changes: dict[str, Any]) -> bool:
    return execute(step_name, replace(cfg, **changes))


def main_of(step_name: str) -> Callable[[Config], None]:
    """The body of an entrypoint that runs one step."""

    def run(cfg: Config) -> None:
        if execute(step_name, cfg):
            for path in matches(Path(cfg.out_dir), STEPS[step_name].outputs)[:12]:
                say(f"{step_name}: {Path(cfg.out_dir) / path}")

    run.__module__ = sys.modules[__name__].__name__
    return run
