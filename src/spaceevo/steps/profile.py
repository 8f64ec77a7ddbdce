"""``python -m spaceevo.profile``: measure INT8 and FP32 blocks and subnets of the hyperspace on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spaceevo.progress import progress
from spaceevo.provenance import KERNELS
from spaceevo.settings import COUNT, setting
from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import OfASpace, OnADevice, hyperspace
from spaceevo.steps.step import SPACE, Step
from spaceevo.training.config import TrainerConfig


@dataclass
class ProfileConfig:
    """How many kernels and whole subnets are measured, and how often."""

    blocks: int = setting("kernels: single blocks, stems and heads", most=COUNT)
    subnets: int = setting("whole random subnets", most=COUNT)
    rounds: int = setting("of timed calls, every model in each", most=COUNT)
    runs: int = setting("calls of a model a round", most=COUNT)


class Needs(OfASpace, OnADevice, Protocol):
    """What it reads of the config."""

    seed: int
    trainer: TrainerConfig
    profile: ProfileConfig


def run(folder: Folder, cfg: Needs) -> None:
    """One row a measured model and precision, and what the host is."""
    import numpy as np

    from spaceevo.atomic import write_json, write_parquet
    from spaceevo.deploy.runtimes.registry import runtime_called
    from spaceevo.deploy.runtimes.timing import timing_writer
    from spaceevo.latency import host
    from spaceevo.latency.profile import profile
    from spaceevo.latency.sampling import graph_of, sample_models

    bits, before = host.weight_bits(cfg.device.weight_bits), host.conditions()
    recipe, runtime = cfg.profile, runtime_called(cfg.device.runtime)
    hs = hyperspace(cfg)
    samples = sample_models(hs, recipe.blocks, recipe.subnets, np.random.default_rng(cfg.seed))
    with progress(total=len(samples), desc="profile", show=cfg.trainer.progress_bar) as bar:
        frame = profile(
            samples,
            lambda sample: graph_of(sample.kind, sample.spec, hs),
            timing_writer(bits, cfg.device.padding, runtime.name),
            recipe.rounds,
            recipe.runs,
            cfg.device.threads,
            part=folder.partial / "kernels.parquet",
            progress=lambda done: bar.update(done - bar.n),
            open_call=runtime.call,
        )
    how = dict(weight_bits=bits, threads=cfg.device.threads, runtime=runtime.name, before=before, after=host.conditions())
    write_json(folder.output("latency/host.json"), host.describe() | how)
    write_parquet(folder.output(KERNELS), frame)


STEP = Step(
    "profile",
    "profile",
    "measures INT8 and FP32 blocks and subnets on the device",
    ("device", *SPACE, "data.channels", "data.classes", "profile"),
    (),
    (KERNELS, "latency/host.json"),
    run,
    needs_latency=True,
)
