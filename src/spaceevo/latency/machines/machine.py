"""A machine that files are timed on, and how one is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaceevo.errors import UserError, bad_value
from spaceevo.latency.config import DeviceConfig
from spaceevo.latency.machines.adb import Adb
from spaceevo.latency.machines.serve import answer, array, content
from spaceevo.latency.machines.ssh import Ssh

#: A task, its arguments, and files by name, to what the machine answers: see :mod:`spaceevo.latency.machines.serve`.
Ask = Callable[[str, Mapping[str, Any], Mapping[str, bytes]], Any]


@dataclass(frozen=True)
class Machine:
    """A machine by the way it is asked. ``here``: it is this one."""

    ask: Ask
    here: bool = False

    def facts(self) -> dict[str, Any]:
        """What it is (``host``), the ``versions`` that it has, and the ``conditions`` it works under
        (:mod:`spaceevo.latency.host`).

        Raises:
            UserError: it cannot be reached; so do the others.
        """
        return dict(self.ask("facts", {}, {}))

    def measure(
        self, runtime: str, models: Mapping[str, bytes], rounds: int, runs: int, threads: int, spread_s: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Milliseconds of single calls of every model in ``runtime``, the models in turn
        (:func:`spaceevo.latency.measure.measure`); through adb, the mean of the calls of each round.

        Raises:
            UserError: the runtime is not there, or does not take a file.
        """
        how = dict(runtime=runtime, rounds=rounds, runs=runs, threads=threads, spread_s=spread_s)
        return {name: np.array(ms) for name, ms in self.ask("measure", how, models).items()}

    def cold_ms(self, runtime: str, models: Mapping[str, bytes], threads: int) -> dict[str, float]:
        """Milliseconds of a call out of cold caches (:func:`spaceevo.latency.measure.cold_ms`); nothing through adb."""
        return dict(self.ask("cold", dict(runtime=runtime, threads=threads), models))

    def outputs(self, runtime: str, model: bytes, images: np.ndarray) -> np.ndarray:
        """Logits ``[N, classes]`` that ``model`` gives there for ``images`` ``[N, C, R, R]``.

        Raises:
            UserError: only times can be had of it (adb).
        """
        return array(self.ask("outputs", dict(runtime=runtime), {"model": model, "images": content(images)}))


HERE = Machine(answer, here=True)


def machine_of(device: DeviceConfig) -> Machine:
    """The machine that ``device`` is.

    Raises:
        UserError: how it is reached is not said, or its runtime cannot be reached so.
    """
    if device.at == "ssh":
        if device.host is None:
            raise UserError("device.host=null: device.at=ssh needs one, as ssh takes it, e.g. device.host=pi@raspberrypi")
        return Machine(Ssh(device.host, device.python).ask)
    if device.at == "adb":
        if device.runtime != "litert":
            raise bad_value("device.runtime", device.runtime, "litert for device.at=adb: benchmark_model is TFLite's")
        return Machine(Adb(device.serial, device.benchmark_model).ask)
    return HERE


def machine_at(place: str, python: str) -> Machine:
    """The machine at ``here``, or ``ssh:<host>``; ``python``: the interpreter there.

    Raises:
        UserError: neither of them.
    """
    kind, _, host = place.partition(":")
    if place == "here":
        return HERE
    if kind != "ssh" or not host:
        raise bad_value("on", place, "here, or ssh:<host>, e.g. ssh:pi@raspberrypi")
    return Machine(Ssh(host, python).ask)
