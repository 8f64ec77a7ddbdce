"""Artifacts and the record of how each was made (``provenance/<step>.json``)."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spaceevo.app.config import Config
from spaceevo.app.steps import VOLATILE, Step, command_for, inputs_of, producer_of, table_of
from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.paths import PACKAGE

Record = dict[str, Any]
SPLIT = "split.json"  # beside a step's partial work: of which split of the images that is


def config_subset(step: Step, cfg: Config) -> dict[str, Any]:
    """The values that decide what ``step`` makes, flat: ``{"bkd.epochs": 2, ...}``; lists stay whole."""
    flat = dict(_flatten("", asdict(cfg)))
    chosen = {key: value for key, value in flat.items() if any(_within(key, subtree) for subtree in (*step.keys, "seed"))}
    return {key: value for key, value in chosen.items() if key not in VOLATILE}


def config_hash(subset: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(subset, sort_keys=True).encode()).hexdigest()


def differing(old: dict[str, Any], new: dict[str, Any], free: Sequence[str] = ()) -> list[str]:
    """``key old -> new`` of every key that differs and is not in the subtrees ``free``."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and not any(_within(key, tree) for tree in free)]
    return [f"{key} {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys]


def matches(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files in ``folder`` that ``patterns`` name, relative to it; hidden ones are unfinished and not among them."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."}
    return sorted(str(path.relative_to(folder)) for path in found)


def writes(step: Step, path: str) -> bool:
    """Whether ``path`` is an output of ``step``."""
    return any(Path(path).match(pattern) for pattern in step.outputs)


def read_record(folder: Path, step: Step) -> Record | None:
    """The provenance of ``step``, None where there is none that can be read."""
    try:
        record = json.loads((folder / "provenance" / f"{step.name}.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "outputs" in record else None


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_sha256(path: Path) -> str:
    """Of an accuracy table: of the file, or of a folder's CSV files with their names.

    Raises:
        UserError: there is neither.
    """
    if path.is_file():
        return sha256(path)
    files = sorted(path.glob("stage*.csv"))
    if not files:
        what = "no CSV files stage<S>_<block type>_<window>.csv in it" if path.is_dir() else "no such file or folder"
        raise UserError(f"lut={path}: {what}")
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def unchanged(folder: Path, record: Record, relative: str) -> bool:
    """Whether a recorded output is as it was: by size and time of change, else by content."""
    path = folder / relative
    try:
        stat = path.stat()
    except OSError:
        return False
    return [stat.st_size, stat.st_mtime_ns] == record["stat"].get(relative) or sha256(path) == record["outputs"][relative]


def partial(cfg: Config, step_name: str) -> Path:
    """The folder for what a step needs to go on after a kill; emptied when its config or inputs change."""
    folder = Path(cfg.out_dir) / "partial" / step_name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Folders:
    """Where a run's artifacts lie: its own folder, and for a job of a multirun the shared one behind it."""

    def __init__(self, cfg: Config) -> None:
        self.out = Path(cfg.out_dir)
        self.shared = Path(cfg.run_dir)
        self.all = list(dict.fromkeys((self.out, self.shared)))

    def holder(self, step: Step) -> tuple[Path, Record] | None:
        """The first folder with a record of ``step``, and that record."""
        for folder in self.all:
            record = read_record(folder, step)
            if record is not None:
                return folder, record
        return None


def input_hashes(step: Step, cfg: Config, folders: Folders) -> dict[str, str]:
    """sha256 of every input of ``step``.

    Raises:
        UserError: an input is missing, or not what its maker wrote.
    """
    table = table_of(step, cfg)
    hashes: dict[str, str] = {} if table is None else {"lut": table_sha256(table)}
    for pattern in inputs_of(step, cfg):
        maker = producer_of(pattern)
        remake = f"`{command_for(maker, cfg)}`"
        held = folders.holder(maker)
        if held is None:
            if step.lenient:
                continue
            if any(matches(folder, [pattern]) for folder in folders.all):
                raise UserError(f"{folders.shared / pattern}: no record of how it was made; make it with {remake}")
            raise UserError(f"{step.name} needs {folders.shared / pattern}, which is missing; make it with {remake}")
        folder, record = held
        listed = [path for path in record["outputs"] if Path(path).match(pattern)]
        for path in listed:
            if not (folder / path).is_file():
                if step.lenient:
                    continue
                raise UserError(f"{step.name} needs {folder / path}, which is missing; make it with {remake}")
            if not unchanged(folder, record, path):
                _explain(folder / path, maker, cfg)
                raise UserError(f"{folder / path}: truncated or changed since it was written; make it again with {remake}")
            hashes[path] = record["outputs"][path]
    for other in cfg.report.compare if step.lenient else ():
        history = Path(other) / "search_space.parquet"
        if not history.is_file():
            raise UserError(
                f"report.compare={other}: holds no search_space.parquet; `python -m spaceevo.search_space` makes it"
            )
        hashes[str(history)] = sha256(history)
    return hashes


def _explain(path: Path, maker: Step, cfg: Config) -> None:
    """Say more of a supernet that is not the one its maker wrote.

    Raises:
        UserError: it is of another space, in FP32 where a quantized one is needed, or truncated.
    """
    if maker.name not in ("supernet", "qat"):
        return
    from spaceevo.app.config import hyperspace
    from spaceevo.training.checkpoint import load_supernet
    from spaceevo.training.recipes import found_space

    hs = hyperspace(cfg)
    command = command_for(maker, cfg)
    try:
        load_supernet(path, hs, command if maker.name == "qat" else None, found_space(cfg, hs))
    except UserError as error:
        told = str(error)
        raise UserError(told if command in told else f"{told}; make it again with `{command}`") from None
    except OSError:  # no space.yaml to compare it with
        return


def outdated(step: Step, record: Record) -> str | None:
    """How a record tells that another version of ``step`` made what it is of, None where it was this one."""
    made = record.get("version", 1)
    return None if made == step.version else f"made by version {made} of the step {step.name}, which is at {step.version} now"


def is_current(step: Step, cfg: Config, record: Record, folder: Path, hashes: dict[str, str]) -> bool:
    """Whether ``folder``, of which ``record`` tells, holds what ``step`` would make."""
    return bool(
        outdated(step, record) is None
        and record["config_hash"] == config_hash(config_subset(step, cfg))
        and record["inputs"] == hashes
        and all(unchanged(folder, record, path) for path in record["outputs"])
    )


@contextmanager
def recorded(step: Step, cfg: Config, folder: Path, hashes: dict[str, str], since: float) -> Iterator[None]:
    """Time the step that runs inside, then write its provenance; files of ``step`` older than ``since`` are removed.

    Raises:
        UserError: the step did not write an output.
    """
    begun = time.time()
    wall, cpu = time.perf_counter(), _cpu_s()
    _begin_peak()
    try:
        yield
    finally:
        peak = _end_peak()
    written = matches(folder, step.outputs)
    for path in list(written):
        if (folder / path).stat().st_mtime < since:
            (folder / path).unlink()
            written.remove(path)
            with suppress(OSError):
                (folder / path).parent.rmdir()
    absent = [pattern for pattern in step.outputs if not any(Path(path).match(pattern) for path in written)]
    if absent and not step.lenient:
        raise RuntimeError(f"{step.name} did not write {', '.join(absent)}")
    stats = {path: (folder / path).stat() for path in written}
    subset = config_subset(step, cfg)
    record = {
        "step": step.name,
        "version": step.version,
        "config": subset,
        "config_hash": config_hash(subset),
        "inputs": hashes,
        "split": _split(cfg, step),
        "outputs": {path: sha256(folder / path) for path in written},
        "stat": {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()},
        "code_version": code_version(),
        "seed": cfg.seed,
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(_cpu_s() - cpu, 3),
        "peak_rss_mib": peak,
        "started": _iso(begun),
        "finished": _iso(time.time()),
    }
    write_json(folder / "provenance" / f"{step.name}.json", record)


@cache
def code_version() -> str:
    """``<package version>[+<git commit>[.dirty]]``."""
    try:
        text = version("spaceevo")
    except PackageNotFoundError:
        text = "0.0.0"
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return text
    return f"{text}+{commit}{'.dirty' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


def _git(*arguments: str) -> str:
    if not (PACKAGE.parents[1] / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, value


def _within(key: str, subtree: str) -> bool:
    return key == subtree or key.startswith(f"{subtree}.")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _split(cfg: Config, step: Step) -> str | None:
    """sha256 of the split of the images that the step has read, None where it read none."""
    path = partial(cfg, step.name) / SPLIT
    return json.loads(path.read_text()) if path.exists() else None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


_UNDER_WAY: list[int] = []  # peaks in MiB of the steps under way, the outer first, up to where an inner one began


def _begin_peak() -> None:
    """Count the peak memory from now on; a step may run another."""
    if _UNDER_WAY:
        _UNDER_WAY[-1] = max(_UNDER_WAY[-1], _peak_mib())
    _UNDER_WAY.append(0)
    _reset_peak()


def _end_peak() -> int:
    """MiB since the last ``_begin_peak`` that was not ended."""
    peak = max(_UNDER_WAY.pop(), _peak_mib())
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
