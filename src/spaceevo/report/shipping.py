"""Which file to ship where: every exported model by device and runtime, and in words what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEAR = 1.05  # a file that takes no longer than so many times the fastest is as good


@dataclass(frozen=True)
class Candidate:
    """A model in a runtime on a device. ``run``: the folder of another run that it is of, else empty; ``int8``, ``fp32``: its
    files, ms of a call, and ms of an INT8 call out of cold caches; None where there is none, or it was not measured."""

    model: str
    device: str
    runtime: str
    run: str
    int8: str
    int8_ms: float | None
    cold_ms: float | None
    bytes: int
    fp32: str | None
    fp32_ms: float | None

    @property
    def speedup(self) -> float | None:
        """Of INT8 over FP32 in the same runtime."""
        return None if self.int8_ms is None or self.fp32_ms is None else self.fp32_ms / self.int8_ms


@dataclass(frozen=True)
class Choice:
    """The rows of a model on a device, and which ``files`` of it may be shipped there: the fastest, and those that are as good;
    none where nothing was measured."""

    rows: Sequence[Candidate]
    files: Sequence[str]
    words: str


def candidates(cards: Iterable[Mapping[str, Any]], run: str = "") -> list[Candidate]:
    """A row an INT8 file of ``cards`` of a ``run``."""
    found = []
    for card in cards:
        files = card.get("files", {})
        real = {file["runtime"]: name for name, file in files.items() if file["precision"] == "fp32"}
        for name, file in files.items():
            if file["precision"] == "int8":
                runtime, fp32 = file["runtime"], real.get(file["runtime"])
                fp32_ms = None if fp32 is None else files[fp32].get("measured_ms")
                told = file.get("measured_ms"), file.get("cold_ms"), file["bytes"]
                found.append(Candidate(card["name"], _device(card), runtime, run, name, *told, fp32, fp32_ms))
    return found


def choices(rows: Sequence[Candidate]) -> list[Choice]:
    """By model and device, in the order of ``rows``."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for row in rows:
        groups.setdefault((row.run, row.model, row.device), []).append(row)
    return [_choice(group) for group in groups.values()]


def advice(found: Sequence[Choice]) -> list[str]:
    """A sentence a device: the file that is to be shipped there, of all models where it is the same."""
    by_device: dict[str, list[Choice]] = {}
    for choice in found:
        by_device.setdefault(choice.rows[0].device, []).append(choice)
    return [_sentence(device, mine) for device, mine in by_device.items()]


def _sentence(device: str, mine: Sequence[Choice]) -> str:
    groups: dict[str, list[Choice]] = {}
    for choice in mine:
        if choice.files:
            groups.setdefault(" or ".join(sorted(choice.files)), []).append(choice)
    if not groups:
        return f"On {device} nothing was measured, so nothing says which file is the fastest there."
    parts = [f"{files} of {_all(group) if len(group) < len(mine) else 'every model'}" for files, group in groups.items()]
    return f"On {device} ship {', and '.join(parts)}."


def _choice(rows: Sequence[Candidate]) -> Choice:
    timed = sorted(((row.int8_ms, row) for row in rows if row.int8_ms is not None), key=lambda pair: pair[0])
    if not timed:
        return Choice(rows, (), "not measured")
    best_ms = timed[0][0]
    floats = [(row.fp32_ms, row) for row in rows if row.fp32_ms is not None]
    fp32_ms, real = min(floats, key=lambda pair: pair[0], default=(None, None))
    if fp32_ms is not None and real is not None and real.fp32 is not None and fp32_ms * NEAR < best_ms:
        told = f"{real.fp32} in {real.runtime}: FP32 is {best_ms / fp32_ms:.2f} times as fast as the fastest INT8 file"
        return Choice(rows, (real.fp32,), told)
    good = [row for ms, row in timed if ms <= NEAR * best_ms]
    told = " or ".join(f"{row.int8} in {row.runtime}" for row in good)
    if len(good) < len(timed):
        ms, row = timed[len(good)]
        told += f": {ms / best_ms:.2f} times as fast as {row.int8} in {row.runtime}"
    elif len(good) > 1:
        told += f": no more than {100 * NEAR - 100:.0f} % apart"
    return Choice(rows, [row.int8 for row in good], told + _cold(rows, good))


def _cold(rows: Sequence[Candidate], good: Sequence[Candidate]) -> str:
    """Where a call now and then is faster in another file."""
    timed = [(row.cold_ms, row) for row in rows if row.cold_ms is not None]
    _, first = min(timed, key=lambda pair: pair[0], default=(None, None))
    if first is None or first in good:
        return ""
    return f"; for a call now and then {first.int8} in {first.runtime}, the fastest out of cold caches"


def _device(card: Mapping[str, Any]) -> str:
    """Its name, and the CPU where it was measured on one."""
    name, cpu = card.get("device", "-"), card.get("host", {}).get("cpu")
    return name if cpu is None or card.get("measured_ms") is None else f"{name} ({cpu})"


def _all(found: Sequence[Choice]) -> str:
    return ", ".join(choice.rows[0].model for choice in found)
