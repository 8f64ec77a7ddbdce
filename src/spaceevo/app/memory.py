"""The CPU time and the peak memory of a step, which may run another."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from spaceevo.steps.beside import PEAKS

_UNDER_WAY: list[int] = []  # peaks in MiB of the steps under way, the outer first, up to where an inner one began


def begin_peak() -> None:
    """Count the peak memory from now on; a step may run another."""
    if _UNDER_WAY:
        _UNDER_WAY[-1] = max(_UNDER_WAY[-1], _peak_mib())
    _UNDER_WAY.append(0)
    _reset_peak()


def end_peak() -> int:
    """MiB since the last ``begin_peak`` that was not ended: of this process, and of those beside it, each at its most."""
    peak = max(_UNDER_WAY.pop(), _peak_mib() + sum(PEAKS))
    PEAKS.clear()
    if _UNDER_WAY:
        _UNDER_WAY[-1] = max(_UNDER_WAY[-1], peak)
    return peak


def _reset_peak() -> None:
    """Count the peak memory from now on (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak_mib() -> int:
    """Peak resident memory in MiB since ``_reset_peak``, or of the whole process where that cannot be told."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def cpu_s() -> float:
    """Seconds of CPU time of this process and its children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
