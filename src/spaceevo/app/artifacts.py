"""Artifacts and the record of how each was made (``provenance/<step>.json``)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from spaceevo.app.config import Config
from spaceevo.app.memory import begin_peak, cpu_s, end_peak
from spaceevo.app.plan import LATER, VOLATILE, command_for, given_sha256, inputs_of, producer_of
from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.provenance import Record, code_version, matches, read_record, sha256
from spaceevo.steps.folder import holder_of
from spaceevo.steps.step import Step

SPLIT = "split.json"  # beside a step's partial work: of which split of the images that is


def config_subset(step: Step, cfg: Config) -> dict[str, Any]:
    """The values that decide what ``step`` makes, flat: ``{"bkd.epochs": 2, ...}``; lists stay whole."""
    flat = dict(_flatten("", asdict(cfg)))
    chosen = {key: value for key, value in flat.items() if any(_within(key, subtree) for subtree in (*step.keys, "seed"))}
    return {key: value for key, value in chosen.items() if key not in VOLATILE and LATER.get(key, ...) != value}


def config_hash(subset: dict[str, Any]) -> str:
    """sha256 of a flat subset of the config, in hex."""
    return hashlib.sha256(json.dumps(subset, sort_keys=True).encode()).hexdigest()


def differing(old: dict[str, Any], new: dict[str, Any], free: Sequence[str] = ()) -> list[str]:
    """``key old -> new`` of every key that differs and is not in the subtrees ``free``."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and not any(_within(key, tree) for tree in free)]
    return [f"{key} {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys]


def writes(step: Step, path: str) -> bool:
    """Whether ``path`` is an output of ``step``."""
    return any(Path(path).match(pattern) for pattern in step.outputs)


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
            record = read_record(folder, step.name)
            if record is not None:
                return folder, record
        return None


def input_hashes(step: Step, cfg: Config, folders: Folders) -> dict[str, str]:
    """sha256 of every input of ``step``.

    Raises:
        UserError: an input is missing, or not what its maker wrote.
    """
    hashes = given_sha256(step, cfg)
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
                what = "a folder" if (folder / path).is_dir() else "missing"
                raise UserError(f"{step.name} needs {folder / path}, which is {what}; make it with {remake}")
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
        shown = (history, *sorted(Path(other).glob("models/*/card.json")))
        hashes |= {str(path): sha256(path) for path in shown}
    return hashes | _shown(step, folders)


def _shown(step: Step, folders: Folders) -> dict[str, str]:
    """sha256 of what ``step`` shows as it is."""
    places = ((holder_of(pattern, *folders.all), pattern) for pattern in step.shows)
    return {path: sha256(folder / path) for folder, pattern in places for path in matches(folder, [pattern])}


def _explain(path: Path, maker: Step, cfg: Config) -> None:
    """Say more of a supernet that is not the one its maker wrote.

    Raises:
        UserError: it is of another space, in FP32 where a quantized one is needed, or truncated.
    """
    if maker.name not in ("supernet", "qat"):
        return
    from spaceevo.space import SearchSpace
    from spaceevo.steps.needs import hyperspace
    from spaceevo.training.checkpoint import load_supernet

    hs = hyperspace(cfg)
    command = command_for(maker, cfg)
    folders = Folders(cfg)
    try:
        found = cfg.space or yaml.safe_load((holder_of("space.yaml", *folders.all) / "space.yaml").read_text())["space"]
        load_supernet(path, hs, command if maker.name == "qat" else None, SearchSpace.parse(found, hs))
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
    wall, cpu = time.perf_counter(), cpu_s()
    begin_peak()
    try:
        yield
    finally:
        peak = end_peak()
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
        "cpu_s": round(cpu_s() - cpu, 3),
        "peak_rss_mib": peak,
        "started": _iso(begun),
        "finished": _iso(time.time()),
    }
    write_json(folder / "provenance" / f"{step.name}.json", record)


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
