"""How a step measures files on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaceevo.deploy.runtimes.registry import measure_cold, measure_files
from spaceevo.latency import host
from spaceevo.latency.machines.machine import machine_of
from spaceevo.steps.needs import Exported


@dataclass(frozen=True)
class Measured:
    """Ms of single calls, and of one out of cold caches, by ``<model>/<file>``, and what the machine is that they were measured
    on; empty for a device that nothing is measured on, of which this machine makes the models."""

    times: Mapping[str, np.ndarray]
    cold: Mapping[str, float]
    machine: Mapping[str, Any]


def timing(cfg: Exported) -> dict[str, Any]:
    """How files are measured."""
    b = cfg.benchmark
    return dict(rounds=b.rounds, runs=b.runs, threads=cfg.device.threads, spread_s=b.spread_s)


def measured(cfg: Exported, files: Mapping[str, bytes], beside: Mapping[str, bytes]) -> Measured:
    """All ``files``, by ``<model>/<file>``, in one interleaved run with those ``beside`` them."""
    if cfg.device.runtime == "none":
        return Measured({}, {}, host.facts())
    machine, times = machine_of(cfg.device), times_of(cfg, {**files, **beside})
    return Measured(times, measure_cold(files, machine, _runtime(cfg), cfg.device.threads), machine.facts())


def times_of(cfg: Exported, files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Ms of single calls of ``files``, by name, in one interleaved run on the device."""
    return measure_files(files, machine_of(cfg.device), _runtime(cfg), **timing(cfg))


def _runtime(cfg: Exported) -> str | None:
    """The only runtime whose files are measured, None for all: another machine needs to have but the device's."""
    return None if cfg.device.at == "here" else cfg.device.runtime
