"""A machine that files are timed on, and how one is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaceevo.errors import UserError, bad_value
from spaceevo.latency.config import DeviceConfig
from spaceevo.latency.machines.adb import Adb
from spaceevo.latency.machines.emulated import Emulated
from spaceevo.latency.machines.serve import answer, array, content
from spaceevo.latency.machines.ssh import Ssh

#: A task, its arguments, and files by name, to what the machine answers: see :mod:`spaceevo.latency.machines.serve`.
Ask = Callable[[str, Mapping[str, Any], Mapping[str, bytes]], Any]


@dataclass(frozen=True)
class Machine:
    """A machine by the way it is asked. ``here``: it is this one; ``timed``: how long a file takes there means something."""

    ask: Ask
    here: bool = False
    timed: bool = True

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
        return self.outputs_of(runtime, {"model": (model, images)})["model"]

    def outputs_of(self, runtime: str, models: Mapping[str, tuple[bytes, np.ndarray]]) -> dict[str, np.ndarray]:
        """The same of many models in one question, each with its images, by name.

        Raises:
            UserError: as :meth:`outputs`.
        """
        files = {name: model for name, (model, _) in models.items()}
        files |= {f"{name}/images": content(images) for name, (_, images) in models.items()}
        told = self.ask("outputs", dict(runtime=runtime, images={name: f"{name}/images" for name in models}), files)
        return {name: array(text) for name, text in told.items()}


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


def emulated(cpu: str) -> Machine:
    """A CPU of ``CPUS`` in :mod:`spaceevo.latency.machines.cpus`, emulated here: files give what they would give on it.

    Raises:
        UserError: no such CPU.
    """
    return Machine(Emulated(cpu).ask, timed=False)


def machine_at(place: str, python: str) -> Machine:
    """The machine at ``here``, ``ssh:<host>`` or ``emulated:<cpu>``; ``python``: the interpreter behind ssh.

    Raises:
        UserError: none of them.
    """
    kind, _, where = place.partition(":")
    if place == "here":
        return HERE
    if kind == "emulated" and where:
        return emulated(where)
    if kind != "ssh" or not where:
        raise bad_value("on", place, "here, ssh:<host>, e.g. ssh:pi@raspberrypi, or emulated:<cpu>, e.g. emulated:cortex-a76")
    return Machine(Ssh(where, python).ask)
