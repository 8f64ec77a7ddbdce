"""``python -m spaceevo.profile``: measure INT8 and FP32 blocks and subnets of the hyperspace on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spaceevo.progress import progress
from spaceevo.provenance import KERNELS
from spaceevo.settings import COUNT, setting
from spaceevo.steps.folder import Folder, say
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
    from spaceevo.latency.host import saturates, unpinned
    from spaceevo.latency.machines.machine import machine_of
    from spaceevo.latency.profile import profile
    from spaceevo.latency.sampling import graph_of, sample_models
    from spaceevo.steps.common import quantizer

    machine, quant = machine_of(cfg.device), quantizer(cfg)
    before = machine.facts()
    if (words := unpinned(before["conditions"])) is not None:
        say(f"profile: {words}")
    if quant.weight_bits == 8 and not quant.symmetric and saturates(before["host"]):
        say("profile: 8-bit weights saturate in onnxruntime on that CPU, which has no VNNI: device.weight_bits=7")
    recipe, runtime = cfg.profile, runtime_called(cfg.device.runtime)
    hs = hyperspace(cfg)
    samples = sample_models(hs, recipe.blocks, recipe.subnets, np.random.default_rng(cfg.seed))
    with progress(total=len(samples), desc="profile", show=cfg.trainer.progress_bar) as bar:
        frame = profile(
            samples,
            lambda sample: graph_of(sample.kind, sample.spec, hs),
            timing_writer(quant, cfg.device.padding, runtime.name),
            lambda models: machine.measure(runtime.name, models, recipe.rounds, recipe.runs, cfg.device.threads),
            part=folder.partial / "kernels.parquet",
            progress=lambda done: bar.update(done - bar.n),
        )
    how = dict(weight_bits=quant.weight_bits, threads=cfg.device.threads, runtime=runtime.name, before=before["conditions"])
    after = machine.facts()["conditions"]
    write_json(folder.output("latency/host.json"), before["host"] | how | dict(after=after, versions=before["versions"]))
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
