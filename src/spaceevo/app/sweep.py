"""Multirun: every combination of comma-separated values is a job with a folder of its own; only missing ones are run.

Hydra composes the jobs and its launchers (this process, joblib, Ray, submitit) run them; what is ours is that a job which
is up to date is not launched, that a failed one stops no other, and the summary at the end.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from spaceevo.app.composer import composer
from spaceevo.app.config import Config, schema_of
from spaceevo.app.lock import locked
from spaceevo.app.place import check_folder
from spaceevo.app.run import is_done
from spaceevo.app.signals import raise_if_stopped
from spaceevo.app.summary import Job, write_summary
from spaceevo.app.words import one_line
from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.progress import progress
from spaceevo.steps.folder import say

#: Launchers, with the plugin each needs and the extra of this package that brings it.
LAUNCHERS = {
    "basic": None,
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "ray": ("hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}
RECORD = "job.json"  # what a job leaves in its folder, whether it failed or not
LOOK_EVERY_S = 0.5


#: Ray says less, unless told otherwise: jobs speak through their records.
RAY_INIT = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Task:
    """What a launcher calls, here or in a process of its own, with a job's config."""

    config_name: str
    run: Callable[[Any], object]
    debug: bool
    launched_by: int = field(default_factory=os.getpid)

    def __call__(self, cfg: DictConfig) -> None:
        folder, begun, error = Path(HydraConfig.get().runtime.output_dir), time.time(), None
        try:
            config = schema_of(self.config_name)[1](cfg)
            if isinstance(config, Config):
                config.out_dir = str(folder)
                config.trainer.progress_bar &= os.getpid() == self.launched_by  # else the sweep has one over the jobs
            if os.getpid() == self.launched_by:
                say(f"sweep: {folder.name}")
            with locked(folder, wait=True):
                self.run(config)
        except BrokenPipeError:
            raise
        except Exception as raised:
            raise_if_stopped()
            error = one_line(raised, self.config_name)
            if self.debug:
                traceback.print_exc()
        write_json(folder / RECORD, {"error": error, "wall_s": time.time() - begun})


def check_launcher(arguments: Sequence[str]) -> None:
    """Raises:
    UserError: ``hydra/launcher=`` is not one of ours, or lacks what it needs here.
    """
    for name in (a.partition("=")[2] for a in arguments if a.startswith("hydra/launcher=")):
        if name not in LAUNCHERS:
            raise UserError(f"hydra/launcher={name}: no such launcher; there are: {', '.join(LAUNCHERS)}")
        needs = LAUNCHERS[name]
        if needs is not None and importlib.util.find_spec(f"hydra_plugins.{needs[0]}") is None:
            raise UserError(f"hydra/launcher={name}: is not installed; install it with `pip install 'spaceevo[{needs[1]}]'`")
        if name == "submitit_slurm" and shutil.which("srun") is None:
            raise UserError(f"hydra/launcher={name}: there is no Slurm here (no srun command); submitit_local runs without it")


def sweep(config_name: str, run: Callable[[Any], object], arguments: Namespace, debug: bool) -> list[Job]:
    """Run the jobs of ``arguments.overrides`` that are not up to date, then write and print the summary."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext, RunMode

    with composer(config_name) as hydra:
        master = hydra.compose_config(config_name, arguments.overrides, run_mode=RunMode.MULTIRUN)
        check_folder("run_dir", str(OmegaConf.select(master, "run_dir", default=".")))
        jobs = _jobs(config_name, master, hydra.config_loader)
        missing = [job for job in jobs if job.state == "missing"]
        counts = {state: sum(job.state == state for job in jobs) for state in ("up to date", "missing", "failed")}
        say(f"sweep: {len(jobs)} jobs, {', '.join(f'{count} {state}' for state, count in counts.items() if count)}")
        crash = None
        if missing:
            if "ray" in master.hydra.launcher:
                with open_dict(master.hydra.launcher.ray):
                    master.hydra.launcher.ray.init = {**RAY_INIT, **master.hydra.launcher.ray.init}
            context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(master))
            launcher = Plugins.instance().instantiate_launcher(
                config=master, hydra_context=context, task_function=Task(config_name, run, debug)
            )
            for job in missing:
                job.folder.mkdir(parents=True, exist_ok=True)
                (job.folder / RECORD).unlink(missing_ok=True)
            bar = (
                OmegaConf.select(master, "trainer.progress_bar", default=True)
                and master.hydra.runtime.choices["hydra/launcher"] != "basic"
            )
            with _progress(missing, bar):
                try:
                    launcher.launch([list(job.overrides) for job in missing], initial_job_idx=0)
                except Exception as error:  # a process died: what the others have written stays
                    raise_if_stopped()
                    crash = one_line(error)
        jobs = [_finished(job, crash) if job.state == "missing" else job for job in jobs]
        print(write_summary(config_name, jobs, Path(master.hydra.sweep.dir)), flush=True)
    return jobs


def _jobs(config_name: str, master: DictConfig, loader: Any) -> list[Job]:
    """Every combination, with its folder and whether it is up to date, missing, or failed before it began.

    Raises:
        UserError: two of them would share a folder.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not str(master.hydra.sweeper._target_).endswith("BasicSweeper"):
        raise UserError(f"hydra/sweeper={master.hydra.runtime.choices['hydra/sweeper']}: no such sweeper; there is: basic")
    given = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*given, *master.hydra.overrides.task])
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    pairs = [dict(override.lstrip("+").split("=", 1) for override in overrides) for overrides in combinations]
    keys = [key for key in pairs[0] if len(pairs) == 1 or len({pair[key] for pair in pairs}) > 1]
    varied = [{key: pair[key] for key in keys} for pair in pairs]
    jobs = [_job(config_name, master, loader, v, tuple(o)) for v, o in zip(varied, combinations, strict=True)]
    by_folder: dict[Path, Job] = {}
    for job in jobs:
        other = by_folder.setdefault(job.folder, job)
        if other is not job and job.state != "failed":
            both = f"{other.name} and {job.name}"
            raise UserError(f"{job.folder}: would be the folder of both {both}; give them names of their own")
    return jobs


def _job(config_name: str, master: DictConfig, loader: Any, varied: dict[str, str], overrides: tuple[str, ...]) -> Job:
    folder, config = Path(master.hydra.sweep.dir) / ",".join(overrides), None
    try:
        composed = loader.load_sweep_config(master, list(overrides))
        folder = Path(composed.hydra.sweep.dir) / composed.hydra.sweep.subdir
        config = schema_of(config_name)[1](composed)
    except Exception as error:
        return Job(varied, overrides, folder, None, "failed", one_line(error, config_name))
    if not isinstance(config, Config):
        return Job(varied, overrides, folder, None, "missing")
    config.out_dir = str(folder.absolute())
    return Job(varied, overrides, folder, config, "up to date" if is_done(config_name, config) else "missing")


def _finished(job: Job, crash: str | None) -> Job:
    """The job with what its record says."""
    try:
        record = json.loads((job.folder / RECORD).read_text())
    except (OSError, ValueError):
        why = "" if crash is None else f" ({crash})"
        return replace(job, state="failed", error=f"its process ended before it did{why}")
    return replace(job, state="failed" if record["error"] else "done", error=record["error"])


@contextmanager
def _progress(jobs: list[Job], show: bool) -> Iterator[None]:
    """A bar over the jobs, which tell by their records that they are over."""
    over = threading.Event()

    def watch() -> None:
        with progress(total=len(jobs), desc="jobs", show=show) as bar:
            while True:
                last = over.wait(LOOK_EVERY_S)
                news = sum((job.folder / RECORD).exists() for job in jobs) - bar.n
                if news:
                    bar.update(news)
                if last:
                    return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
