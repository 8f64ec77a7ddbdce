"""``make torture``: a tiny run that is killed at random moments, or whose disk fills in every step, against an undisturbed one.

The same artifacts, byte for byte, or it did not survive; what says when and how fast something ran is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = ("experiment=tiny", "device=intel_vnni", "threads=1")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: How a command ends that each of them reaches; SIGINT while Python itself starts ends it as Python does.
ENDS = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}
#: What tells the time, or shows it.
TIMED_FOLDERS, TIMED = ("provenance", "logs", "hydra", "figures"), ("report.html", "card.json")
PATIENCE_S = 3600.0
TMPFS_MIB = 256


@dataclass(frozen=True)
class Verdict:
    """What became of a disturbed run: what disturbed it, how often, and what went wrong (nothing, where it survived)."""

    what: str
    times: int
    wrong: tuple[str, ...]


def pipeline(folder: Path) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}"]


def environment() -> dict[str, str]:
    """Of the commands: this checkout's code."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def started(folder: Path) -> subprocess.Popen[str]:
    """The command, at work."""
    pipe = subprocess.PIPE
    return subprocess.Popen(pipeline(folder), env=environment(), stdout=pipe, stderr=pipe, text=True)


def undisturbed(folder: Path) -> tuple[dict[str, str], float]:
    """The hashes of a whole run's artifacts, and the seconds that it took."""
    began = time.monotonic()
    subprocess.run(pipeline(folder), env=environment(), check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)
    return hashes(folder), time.monotonic() - began


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a run that does not tell the time."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder)
        if relative.parts[0] not in TIMED_FOLDERS and path.name not in TIMED:
            found[str(relative)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def killed(folder: Path, whole: Mapping[str, str], seconds: float, kills: int, seed: int) -> list[Verdict]:
    """As many runs, one after the other, as it takes for ``kills`` signals, each at a random moment of what is left to do."""
    dice, verdicts, left = random.Random(seed), [], kills
    while left > 0:
        run, times, wrong = folder / f"killed-{len(verdicts)}", 0, []
        while left > 0:
            number = dice.choice(SIGNALS)
            ended, why = interrupted(run, number, dice.uniform(0.1, 1.0) ** 2 * seconds)
            wrong += why
            if ended:
                break
            times, left = times + 1, left - 1
        wrong += finished(run, whole)
        verdicts.append(Verdict("signals", times, tuple(wrong)))
        print(f"torture: {times} signals, {'; '.join(wrong) or 'the same bytes'}; {left} to go", flush=True)
        shutil.rmtree(run, ignore_errors=True)
    return verdicts


def interrupted(run: Path, number: signal.Signals, after_s: float) -> tuple[bool, list[str]]:
    """Start the run and send it a signal after so many seconds.

    Returns:
        Whether it had ended before, and what was wrong with how it ended.
    """
    with started(run) as process:
        try:
            _, error = process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, error = process.communicate(timeout=PATIENCE_S)
    if process.returncode == 0:
        return True, []
    wrong = []
    if process.returncode not in ENDS[number]:
        wrong.append(f"{number.name}: exit code {process.returncode}: {error[-400:]}")
    elif "Traceback" in error and process.returncode > 0:
        wrong.append(f"{number.name}: a traceback: {error[-400:]}")
    return False, wrong


def finished(run: Path, whole: Mapping[str, str]) -> list[str]:
    """What is wrong with the run once the same command has ended it."""
    done = subprocess.run(pipeline(run), env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        return [f"does not go on: {done.stderr.strip()[-400:]}"]
    mine = hashes(run)
    differ = sorted(path for path in {*mine, *whole} if mine.get(path) != whole.get(path))
    return [f"differs in {path}" for path in differ]


def filled(folder: Path, whole: Mapping[str, str], steps: Sequence[str]) -> list[Verdict]:
    """A run for every step, on a small file system that fills while that step works, and then is given room again."""
    verdicts = []
    for step in steps:
        with small_disk(folder / "disk") as disk:
            wrong = [*starved(disk / "run", step), *finished(disk / "run", whole)]
            verdicts.append(Verdict(f"full disk in {step}", 1, tuple(wrong)))
            print(f"torture: full disk in {step}: {'; '.join(wrong) or 'the same bytes'}", flush=True)
    return verdicts


def steps_of(whole: Path) -> list[str]:
    """The steps of a finished run, in the order in which they ended."""
    records = sorted((whole / "provenance").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text())["step"] for path in records]


def starved(run: Path, step: str) -> list[str]:
    """Fill the disk of a run as soon as ``step`` begins; it has to end in a line that says so, or without needing more room."""
    with started(run) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith(f"{step}: "):
                break
        with filler(run.parent):
            _, error = process.communicate(timeout=PATIENCE_S)
    if process.returncode == 0:
        return []
    if process.returncode != 2 or not error.startswith("error: disk full") or error.count("\n") != 1:
        return [f"exit code {process.returncode}: {error[-400:]}"]
    return []


@contextmanager
def filler(disk: Path) -> Iterator[None]:
    """All that is free on the disk, taken."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of ``TMPFS_MIB`` in memory."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "torture", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def can_mount() -> bool:
    """Whether file systems may be mounted here."""
    with tempfile.TemporaryDirectory() as place:
        line = ["mount", "-t", "tmpfs", "-o", "size=1m", "torture", place]
        if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode != 0:
            return False
        return subprocess.run(["umount", place]).returncode == 0


def main() -> int:
    """Torture, and how many survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disks", action=argparse.BooleanOptionalAction, default=True, help="fill a disk in every step too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        whole, seconds = undisturbed(folder / "whole")
        again, _ = undisturbed(folder / "again")
        print(f"torture: {len(whole)} files, {seconds:.0f} s undisturbed; twice the same bytes: {again == whole}", flush=True)
        verdicts = killed(folder, whole, seconds, asked.kills, asked.seed)
        if asked.disks and can_mount():
            verdicts += filled(folder, whole, steps_of(folder / "whole"))
        elif asked.disks:
            print("torture: no file system may be mounted here, so no disk is filled", flush=True)
    times, well = sum(v.times for v in verdicts), sum(v.times for v in verdicts if not v.wrong)
    print(f"torture: {well} of {times} survived, in {len(verdicts)} runs (seed {asked.seed})")
    return 0 if well == times and again == whole else 1


if __name__ == "__main__":
    sys.exit(main())
