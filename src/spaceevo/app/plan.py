"""Which steps a run needs under a config: what each reads then, what makes that, and what to type for it."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from spaceevo.app.config import Config
from spaceevo.errors import UserError
from spaceevo.latency.config import SHIPPED
from spaceevo.provenance import KERNELS, PREDICTOR, TAU, sha256
from spaceevo.steps import STEPS
from spaceevo.steps.step import Step

#: Keys that change where or how a step runs, not what it makes.
VOLATILE = ("data.root", "data.workers", "data.download", "device.python")
#: Keys that there have not always been, with the values that say what was so before: these are not recorded.
LATER = {
    "data.names": [], "data.background": 255, "data.files": "", "data.augment": None, "data.mix": None, "data.erase": 0,
    "data.balanced": False, "teacher.images": None, "adapt": None, "released": None, "model": None,
    "supernet.smallest": True, "qat.smallest": True, "finish.until": 8.0,
    "device.activations": "affine", "device.at": "here", "device.host": None, "device.serial": None,
    "device.benchmark_model": "/data/local/tmp/benchmark_model",
}  # fmt: skip


def inputs_of(step: Step, cfg: Config) -> tuple[str, ...]:
    """What ``step`` reads under ``cfg``: ``space=`` replaces ``space.yaml``, ``device.predictor=`` the profile, ``lut=`` what
    the search of the space reads; subnets are judged by the supernet or by the table, and by the supernet from those on that
    the table was judged by, where the run has a table of its own."""
    skipped = set()
    if cfg.space is not None:
        skipped.add("space.yaml")
    if cfg.device.predictor is not None:
        skipped.add(KERNELS)
    if step.name == "search_subnet":
        by_table = cfg.search_subnet.quality == "lut"
        skipped.add("qat.ckpt" if by_table else "lut.parquet")
        if by_table or cfg.tau.subnets == 0 or cfg.space is not None or cfg.lut is not None:
            skipped.add(TAU)
    if table_of(step, cfg) is not None:
        skipped |= {"lut.parquet", PREDICTOR}
    return step.inputs if step.lenient else tuple(path for path in step.inputs if path not in skipped)


def table_of(step: Step, cfg: Config) -> Path | None:
    """The accuracy table that ``lut=`` gives ``step`` in place of ``lut.parquet``, None where there is none."""
    return Path(cfg.lut) if cfg.lut is not None and "lut" in step.takes else None


def given_sha256(step: Step, cfg: Config) -> dict[str, str]:
    """Of what the config gives ``step`` to read beside or in place of artifacts, by its key: an accuracy table; for the
    predictor also measured models and another predictor.

    Raises:
        UserError: there is none.
    """
    table = table_of(step, cfg)
    named = {} if table is None else {"lut": table}
    if step.name == "predictor":
        given = {"adapt": cfg.adapt, "device.predictor": cfg.device.predictor}
        named |= {key: Path(path) for key, path in given.items() if path not in (None, SHIPPED)}
    return {key: _content_sha256(key, path) for key, path in named.items()}


def _content_sha256(key: str, path: Path) -> str:
    """Of a file, or of a folder's CSV files with their names."""
    if path.is_file():
        return sha256(path)
    files = sorted(path.glob("stage*.csv"))
    if not files:
        what = "no CSV files stage<S>_<block type>_<window>.csv in it" if path.is_dir() else "no such file or folder"
        raise UserError(f"{key}={path}: {what}")
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def producer_of(pattern: str) -> Step:
    """The step that writes ``pattern``."""
    return next(step for step in STEPS.values() if pattern in step.outputs)


def needed_steps(cfg: Config) -> list[Step]:
    """The steps a whole pipeline runs: all, but for those whose results ``cfg`` gives and, of a device that is not here, the
    benchmark; of the optional ones those that ``also`` names."""
    needed, waiting = set(), ["benchmark" if cfg.device.runtime != "none" else "export", *cfg.also]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [producer_of(pattern).name for pattern in inputs_of(STEPS[name], cfg)]
    return [step for step in STEPS.values() if step.name in needed or step.lenient]


def command_for(step: Step, cfg: Config) -> str:
    """What to type to run ``step`` with the same config."""
    return " ".join(["python -m", f"spaceevo.{step.command}", *overrides(cfg)])


def overrides(cfg: Config) -> list[str]:
    """``given_overrides``, quoted for a shell, but for those that are another command's matter."""
    own = ("stage", "start_over", "debug")
    return [shlex.quote(text) for text in given_overrides(cfg) if text.split("=")[0].lstrip("+") not in own]


def given_overrides(cfg: Config) -> list[str]:
    """The overrides this process was given; without a command line, the run folder's."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [f"run_dir={cfg.run_dir}"]


def check_device(step: Step, cfg: Config) -> str | None:
    """Why ``step`` cannot run for want of latencies, predicted or measured, or None."""
    if step.needs_device and cfg.device.runtime == "none":
        return f"device={cfg.device.name}: is not here to be measured (runtime none); the {step.name} measures device=host"
    if (
        table_of(step, cfg) is not None
        or not step.needs_latency
        or cfg.device.runtime != "none"
        or cfg.device.predictor is not None
    ):
        return None
    name = cfg.device.name
    return (
        f"device={name} has no latency predictor: it cannot be measured here (runtime none); fit one with "
        f"`python -m spaceevo.predictor device={name} device.predictor=...` (needs the published tables or a profile of "
        f"that device), or use device=host"
    )


def pipeline_command(cfg: Config) -> str:
    """What to type to run the whole pipeline with the same config."""
    return command_for(STEPS["report"], cfg).replace("spaceevo.report", "spaceevo.pipeline", 1)
