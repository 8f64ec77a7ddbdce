"""How a step measures files on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaceevo.deploy.claims.card import timing_claims
from spaceevo.deploy.runtimes.registry import (
    ColdTimes,
    Runtime,
    Times,
    measure_cold,
    measure_files,
    runtime_called,
    runtimes_for,
)
from spaceevo.latency import host
from spaceevo.latency.machines.machine import machine_of
from spaceevo.steps.needs import Exported


@dataclass(frozen=True)
class Measured:
    """Ms of single calls, and of one out of cold caches, by runtime and ``<model>/<file>``, and what the machine is that they
    were measured on; empty for a device that nothing is measured on, of which this machine makes the models."""

    times: Times
    cold: ColdTimes
    machine: Mapping[str, Any]

    def claims(self, runtime: str, name: str) -> dict[str, Any]:
        """What a card tells of it; of a file that was not measured in that runtime, None."""
        return timing_claims(self.times.get(runtime, {}).get(name), self.cold.get(runtime, {}).get(name))


def timing(cfg: Exported) -> dict[str, Any]:
    """How files are measured."""
    b = cfg.benchmark
    return dict(rounds=b.rounds, runs=b.runs, threads=cfg.device.threads, spread_s=b.spread_s)


def measured(cfg: Exported, files: Mapping[str, bytes], beside: Mapping[str, bytes]) -> Measured:
    """All ``files``, by ``<model>/<file>``, in one interleaved run with those ``beside`` them."""
    if cfg.device.runtime == "none":
        return Measured({}, {}, host.facts())
    machine, times = machine_of(cfg.device), times_of(cfg, {**files, **beside})
    return Measured(times, measure_cold(files, machine, _runtimes(cfg), cfg.device.threads), machine.facts())


def times_of(cfg: Exported, files: Mapping[str, bytes]) -> Times:
    """Ms of single calls of ``files``, by runtime and name, each runtime's in one interleaved run on the device."""
    return measure_files(files, machine_of(cfg.device), _runtimes(cfg), **timing(cfg))


def _runtimes(cfg: Exported) -> list[Runtime]:
    """What files are measured in: another machine needs to have but the device's runtime."""
    runtime = runtime_called(cfg.device.runtime)
    return runtimes_for(runtime) if cfg.device.at == "here" else [runtime]
