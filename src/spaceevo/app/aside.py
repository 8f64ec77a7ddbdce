"""Starting a run anew: what it had is kept aside until the new one is complete."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from spaceevo.provenance import Record, matches, read_record
from spaceevo.steps import STEPS
from spaceevo.steps.folder import say
from spaceevo.steps.step import AT_BASELINES, REFUSED

ASIDE = "aside"  # holds a folder for every time that the run was started anew, 1, 2, ...


def set_aside(folder: Path) -> None:
    """Move every step's artifacts, records and partial work out of the way, and say what that is; nothing else is moved."""
    found = _artifacts(folder)
    if not found:
        return
    into = next(place for number in count(1) if not (place := folder / ASIDE / str(number)).exists())
    for line in _words(folder, found, into):
        say(f"start_over: {line}")
    for path in found:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).replace(into / path)
        for emptied in (folder / path).parents:
            with suppress(OSError):
                emptied.rmdir()


def drop_aside(folder: Path) -> None:
    """Remove what is kept aside: the run is complete."""
    if (folder / ASIDE).is_dir():
        shutil.rmtree(folder / ASIDE)
        say(f"start_over: the new run is complete, {folder / ASIDE} is removed")


def _artifacts(folder: Path) -> list[str]:
    """Relative to ``folder``, in the order in which they can go: whose the run is stays until the last is moved."""
    if not folder.is_dir():
        return []
    patterns = [pattern for step in STEPS.values() for pattern in (f"provenance/{step.name}.json", *step.outputs)]
    inner = [f"{AT_BASELINES}/{path}" for path in _artifacts(folder / AT_BASELINES)]
    partial = [str(path.relative_to(folder)) for path in sorted((folder / "partial").rglob("*")) if not path.is_dir()]
    return [
        *inner,
        *dict.fromkeys(matches(folder, [*patterns, f"models/*/{REFUSED}/*"])),
        *partial,
        *matches(folder, ["hydra/*/.hydra/*.yaml", "run.yaml"]),
    ]


def _words(folder: Path, found: list[str], into: Path) -> list[str]:
    """What goes, in lines: how much in all, then of every step what it made, when, and how long that took."""
    records = [record for step in STEPS.values() if (record := read_record(folder, step.name)) is not None]
    hours = sum(record["wall_s"] for record in records) / 3600
    size = sum((folder / path).lstat().st_size for path in found) / 2**20
    lines = [f"{len(found)} files ({size:.1f} MiB, {hours:.2f} hours of work) go to {into}, kept until the new run is complete"]
    for record in records:
        outputs = ", ".join(STEPS[record["step"]].outputs)
        lines.append(f"{outputs} of {record['step']}, {_age(record)} old, {record['wall_s'] / 3600:.2f} hours of work")
    return lines


def _age(record: Record) -> str:
    """How long ago a step ended."""
    hours = (datetime.now(UTC) - datetime.fromisoformat(record["finished"])).total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
