"""Run a step, or all of them: only what is not up to date, from where a killed one stopped."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from spaceevo.app.artifacts import (
    Folders,
    Record,
    config_hash,
    config_subset,
    differing,
    input_hashes,
    is_current,
    matches,
    outdated,
    partial,
    read_record,
    recorded,
)
from spaceevo.app.config import Config, check_images, check_judges
from spaceevo.app.steps import AT_BASELINES, STEERED, STEPS, Step, check_device, command_for, needed_steps
from spaceevo.app.upstream import check_makers
from spaceevo.atomic import UNFINISHED, write_json, write_yaml
from spaceevo.errors import UserError

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
    _claim(step, cfg)
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
    _claim(steps[0], cfg)
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
    report = _folder_of("report.html", cfg) / "report.html"
    if not ran:
        say(f"nothing to do: every step is up to date; report at {report}")
    else:
        records = [record for step in steps if (record := read_record(Path(cfg.out_dir), step)) is not None]
        minutes, peak = sum(r["wall_s"] for r in records) / 60, max(r["peak_rss_mib"] for r in records)
        say(f"all steps took {minutes:.1f} minutes and at most {peak} MiB of memory")
        say(f"done ({', '.join(ran)}); report at {report}")
    return bool(ran)


def input_path(cfg: Config, relative: str) -> Path:
    """An artifact to read: of this run's own folder, or for a job of a multirun of the shared one."""
    return _folder_of(relative, cfg) / relative


def input_paths(cfg: Config, pattern: str) -> list[Path]:
    """The artifacts to read that ``pattern`` names, sorted."""
    folder = _folder_of(pattern, cfg)
    return [folder / path for path in matches(folder, [pattern])]


def output_path(cfg: Config, relative: str) -> Path:
    """Where to write an artifact; its folder is made."""
    path = Path(cfg.out_dir) / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """One line on standard output."""
    print(text, flush=True)


def pipeline_command(cfg: Config) -> str:
    """What to type to run the whole pipeline with the same config."""
    return command_for(STEPS["report"], cfg).replace("spaceevo.report", "spaceevo.pipeline", 1)


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


def _folder_of(pattern: str, cfg: Config) -> Path:
    folders = Folders(cfg)
    return next((folder for folder in folders.all if matches(folder, [pattern])), folders.out)


def _run(step: Step, cfg: Config, hashes: dict[str, str]) -> None:
    out = Path(cfg.out_dir)
    since = _open_partial(step, cfg, hashes)
    _remove_unfinished(out, step)
    module, function = step.run.split(":")
    with recorded(step, cfg, out, hashes, since):
        recipe: Callable[[Config], Any] = getattr(importlib.import_module(module), function)
        recipe(cfg)
    _drop_partial(step, cfg)


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


def _claim(step: Step, cfg: Config) -> None:
    """Make the run folder this configuration's, or refuse.

    Raises:
        UserError: it is another configuration's.
    """
    if step.lenient:
        return
    out = Path(cfg.out_dir)
    if cfg.start_over:
        remove_artifacts(out)
    mine = identity(cfg)
    path = out / "run.yaml"
    try:
        theirs = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        write_yaml(path, mine)
        return
    differ = differing(theirs or {}, mine)
    if differ:
        raise UserError(
            f"run_dir={out} is another configuration's ({', '.join(differ)}); give this one a name of its own with "
            f"name=..., or remove that run's artifacts with start_over=true"
        )


def identity(cfg: Config) -> dict[str, Any]:
    """What may not change within a run folder: the images, the hyperspace, the device."""
    values = asdict(cfg)
    flat = {"data.name": cfg.data.name, "data.image_size": cfg.data.image_size, "device.name": cfg.device.name}
    for key in ("hyperspace", "blocks"):
        flat |= {f"{key}.{name}": value for name, value in values[key].items()}
    return flat


def remove_artifacts(folder: Path) -> None:
    """Remove every step's artifacts, records and partial work from ``folder``, and nothing else."""
    for step in STEPS.values():
        for path in [*matches(folder, step.outputs), f"provenance/{step.name}.json"]:
            with suppress(OSError):
                (folder / path).unlink()
            with suppress(OSError):
                (folder / path).parent.rmdir()
    shutil.rmtree(folder / "partial", ignore_errors=True)
    with suppress(OSError):
        (folder / "run.yaml").unlink()
    if (folder / AT_BASELINES).is_dir():
        remove_artifacts(folder / AT_BASELINES)


def main_of(step_name: str) -> Callable[[Config], None]:
    """The body of an entrypoint that runs one step."""

    def run(cfg: Config) -> None:
        if execute(step_name, cfg):
            for path in matches(Path(cfg.out_dir), STEPS[step_name].outputs)[:12]:
                say(f"{step_name}: {Path(cfg.out_dir) / path}")

    run.__module__ = sys.modules[__name__].__name__
    return run
