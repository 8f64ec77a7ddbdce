"""A CPU that is not here, emulated by qemu-user: what files give on it can be had, how long they take cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaceevo.errors import UserError
from spaceevo.latency.machines.asked import BEGIN, Done, ask_through, last_line
from spaceevo.latency.machines.cpus import cpu_called
from spaceevo.latency.machines.roots import RECORD, command, ready


@dataclass(frozen=True)
class Emulated:
    """``name``: of the CPU, one of :data:`spaceevo.latency.machines.cpus.CPUS`."""

    name: str

    def ask(self, task: str, asked: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
        """See :data:`spaceevo.latency.machines.machine.Ask`.

        Raises:
            UserError: it cannot be set up here, it is asked for times, or a runtime fails on it; in one line.
        """
        cpu = cpu_called("emulated", self.name)
        if task in ("measure", "cold"):
            raise UserError(f"emulated:{self.name}: an emulated CPU gives what a file gives there, not how long it takes")
        folder = ready(self.name, cpu)
        line = command(folder, cpu, "-c", BEGIN)
        told = ask_through(line, f"emulated:{self.name}", _why, task, asked, files)
        if task == "facts":
            told["versions"]["qemu-user"] = json.loads((folder / RECORD).read_text())["qemu"].split()[2]
        return told


def _why(done: Done) -> str:
    """Why there is no answer, in one line; qemu's of a signal is its last."""
    return f"Python there ended: {last_line(done)}"
