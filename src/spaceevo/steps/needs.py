"""The parts of the config that several steps read: a step's ``Needs`` are these and its own section.

They are structural types: the config that ``app`` composes has all of them, and a test or a notebook may pass less.
"""

from __future__ import annotations

from typing import Protocol

from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import ExportConfig
from spaceevo.latency.config import DeviceConfig, LatencyConfig
from spaceevo.space import Hyperspace
from spaceevo.space.config import BlocksConfig, HyperspaceConfig, hyperspace_of
from spaceevo.training.config import LoggerConfig, TrainerConfig


class OfASpace(Protocol):
    """The hyperspace, for the images."""

    hyperspace: HyperspaceConfig
    blocks: BlocksConfig
    data: DataConfig


class OnADevice(Protocol):
    """The device models are made for."""

    device: DeviceConfig


class Limited(Protocol):
    """The latency limits."""

    latency: LatencyConfig


class Seeded(Protocol):
    """What every training is started with."""

    seed: int
    threads: int


class Trained(Seeded, Protocol):
    """Where trainings run and log; ``name``: the run's, for dashboards."""

    name: str
    trainer: TrainerConfig
    logger: LoggerConfig


class InASpace(OfASpace, Protocol):
    """``space``: to be used in place of the found one."""

    space: str | None


class Calibrated(Protocol):
    """How many training images BatchNorm statistics are recalibrated on, and how many validation images choose nothing."""

    calibration_images: int
    judge_images: int


class Measured(Protocol):
    """How often models are measured, and over how many seconds."""

    rounds: int
    runs: int
    spread_s: float


class Exported(OfASpace, OnADevice, Seeded, Protocol):
    """How a network becomes files, and how these are measured."""

    trainer: TrainerConfig
    export: ExportConfig

    @property
    def search_subnet(self) -> Calibrated: ...

    @property
    def benchmark(self) -> Measured: ...


def hyperspace(cfg: OfASpace) -> Hyperspace:
    """The config's hyperspace with its block list, for its images.

    Raises:
        UserError: an impossible value, with its key.
    """
    return hyperspace_of(cfg.hyperspace, cfg.blocks, cfg.data.channels, cfg.data.classes)
