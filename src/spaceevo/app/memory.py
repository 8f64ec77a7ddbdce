"""The CPU time and the peak memory of a step, which may run another."""

from __future__ import annotations

import os
from contextlib import suppress

from spaceevo.steps.beside import PEAKS, peak_mib

_UNDER_WAY: list[int] = []  # peaks in MiB of the steps under way, the outer first, up to where an inner one began


def begin_peak() -> None:
    """Count the peak memory from now on; a step may run another."""
    if _UNDER_WAY:
        _UNDER_WAY[-1] = max(_UNDER_WAY[-1], peak_mib())
    _UNDER_WAY.append(0)
    _reset_peak()


def end_peak() -> int:
    """MiB since the last ``begin_peak`` that was not ended: of this process, and of those beside it, each at its most."""
    peak = max(_UNDER_WAY.pop(), peak_mib() + sum(PEAKS))
    PEAKS.clear()
    if _UNDER_WAY:
        _UNDER_WAY[-1] = max(_UNDER_WAY[-1], peak)
    return peak


def _reset_peak() -> None:
    """Count the peak memory from now on (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def cpu_s() -> float:
    """Seconds of CPU time of this process and its children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
