"""The two forms a table is stored in: our ``lut.parquet``, and the authors' folder of CSV files.

A line of ``stage<S>_<block type>_<window>.csv`` is ``k#w#e_k#w#e..., 1xCINxHxW, nsr, mmacs, mparams, ms``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.evolution.table import Ends
from spaceevo.paths import cache_dir
from spaceevo.space import Hyperspace, parse_stage, stage_input_hw

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, np.ndarray]
NUMBERS = ("nsr", "mmacs", "mparams", "ms")
FORMAT = 1  # of the cached arrays


def read_parquet(path: Path) -> tuple[Columns, Ends]:
    """The columns of ``lut.parquet``, and the ms around its sub-stages (those of its metadata).

    Raises:
        UserError: it is none, or a row has no finite NSR and ms.
    """
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        ends = _ends(schema.metadata)
        whole = bool(ends.entry) or {"cin", "hw", "config", "mmacs", "params"} <= set(schema.names)
        names = ["stage", "type", "window", "resolution", "nsr", "ms"]
        parquet = pq.read_table(path, columns=names + (["cin", "hw", "config", "mmacs", "params"] if whole else []))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_table(path, error) from None
    columns = {name: parquet[name].to_numpy() for name in parquet.column_names if name != "config"}
    bad = np.flatnonzero(~np.isfinite(columns["nsr"]) | ~np.isfinite(columns["ms"]))
    if len(bad):
        raise UserError(f"{path}: row {bad[0]} has no finite nsr and ms ({len(bad)} such rows)")
    key = np.stack([columns.pop("stage") - 1, *(columns.pop(n) for n in ("type", "window", "resolution"))], 1)
    columns["key"] = key.astype(np.int16)
    if whole:
        columns["mparams"] = columns.pop("params") / 1e6
        columns["blocks"] = parse_blocks(parquet["config"])
    return columns, ends


def _no_table(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not an accuracy table ({type(error).__name__}); make it with `python -m spaceevo.lut`")


def metadata_of(ends: Ends, origin: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How ``lut.parquet`` holds ``ends`` and ``origin``: of which ``hyperspace`` (all fields, and ``hyperspace_sha256``), which
    images (``data``, ``split``), which ``teacher`` (sha256) and which ``device`` it was made."""
    told = {} if origin is None else {"made_of": dict(origin)}
    return {"fixed_ms": ends.call, "entry_ms": ends.entry, "exit_ms": ends.exit, **told}


def origin_of(path: Path) -> dict[str, Any] | None:
    """What a ``lut.parquet`` tells of its origin; None of one that was made before they did."""
    import pyarrow.parquet as pq

    try:
        told = json.loads((pq.read_schema(path).metadata or {}).get(b"made_of", b"null"))
    except (OSError, ValueError) as error:
        raise _no_table(path, error) from None
    return told if isinstance(told, dict) else None


def _ends(metadata: dict[bytes, bytes]) -> Ends:
    """A table made before there was an ``entry_ms`` counts stem and head as the smallest subnet's, in ``fixed_ms``."""

    def by_width(name: bytes) -> dict[int, dict[int, float]]:
        found = json.loads(metadata.get(name, b"{}"))
        return {int(r): {int(w): float(ms) for w, ms in costs.items()} for r, costs in found.items()}

    call = {int(r): float(ms) for r, ms in json.loads(metadata[b"fixed_ms"]).items()}
    return Ends(call, by_width(b"entry_ms"), by_width(b"exit_ms"))


def read_folder(folder: Path, hs: Hyperspace) -> Columns:
    """The columns of a folder of CSV files, from the cache where nothing has changed.

    Raises:
        UserError: a file that is missing, or a row that cannot be (file and line).
    """
    names = {
        (s, t, w): f"stage{s + 1}_{t}_{w}.csv"
        for s, spec in enumerate(hs.stages)
        for t in spec.types
        for w in range(spec.windows)
    }
    try:
        stats = {name: os.stat(folder / name) for name in names.values()}
    except OSError:
        missing = [name for name in names.values() if not (folder / name).is_file()]
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise UserError(f"{folder}: hyperspace {hs.name} has {', '.join(missing[:8])}{more}, which are missing") from None
    seen: dict[str, Any] = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    identity = json.dumps([FORMAT, str(folder.resolve()), hs.to_dict(), seen], sort_keys=True)
    cached = cache_dir() / "tables" / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npz"
    try:
        with np.load(cached, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        columns = _read_csvs(folder, hs, names)
    with suppress(OSError):  # a cache that cannot be written costs the next reader a second
        atomic_write(cached, partial(_save, columns))
    return columns


def _save(columns: Columns, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def _read_csvs(folder: Path, hs: Hyperspace, names: dict[tuple[int, int, int], str]) -> Columns:
    import pyarrow as pa
    from pyarrow import csv

    types = {"config": pa.string(), "shape": pa.string(), **{name: pa.float64() for name in NUMBERS}}
    read = csv.ReadOptions(column_names=list(types), use_threads=False)
    convert = csv.ConvertOptions(column_types=types, null_values=["", "nan", "NaN"])
    tables = []
    for (stage, block, window), name in names.items():
        try:
            table = csv.read_csv(folder / name, read, convert_options=convert)
        except pa.ArrowInvalid:
            raise _bad_line(folder / name, hs, stage, block, window) from None
        tables.append(table)
    counts = [len(table) for table in tables]
    whole = pa.concat_tables(tables)
    key = np.repeat(np.array(list(names), np.int16), counts, axis=0)
    columns = {name: whole[name].to_numpy(zero_copy_only=False) for name in NUMBERS}
    sound = np.logical_and.reduce([np.isfinite(columns[name]) for name in NUMBERS])
    cin, hw = _parse_shapes(whole["shape"])
    resolution = np.zeros(len(key), np.int16)
    for r in hs.lut_resolutions:
        sizes = np.array(stage_input_hw(hs, r))
        resolution[hw == sizes[key[:, 0]]] = r
    blocks = parse_blocks(whole["config"])
    sound &= (resolution > 0) & of_hyperspace(hs, key, cin, blocks)
    if not sound.all():
        file = np.repeat(np.arange(len(names)), counts)[np.argmin(sound)]
        (stage, block, window), name = list(names.items())[file]
        raise _bad_line(folder / name, hs, stage, block, window)
    columns |= {"key": np.column_stack([key, resolution]), "cin": cin, "hw": hw, "blocks": blocks}
    order = np.lexsort(columns["key"].T[::-1])
    return {name: values[order] for name, values in columns.items()}


def parse_blocks(configs: pa.ChunkedArray) -> np.ndarray:
    """``k#w#e_k#w#e...`` as kernel, width, expand ``[rows, deepest, 3]``: see ``Rows``; all NaN where it cannot be read."""
    import pyarrow.compute as pc

    lists = pc.split_pattern(configs.combine_chunks(), "_")
    offsets = lists.offsets.to_numpy()
    depth = np.diff(offsets)
    words = lists.flatten().dictionary_encode()
    known = np.array([_block(text) for text in words.dictionary.to_pylist()], np.float32).reshape(-1, 3)
    blocks = np.zeros((len(depth), int(depth.max(initial=0)), 3), np.float32)
    row = np.repeat(np.arange(len(depth)), depth)
    blocks[row, np.arange(len(row)) - np.repeat(offsets[:-1] - offsets[0], depth)] = known[words.indices.to_numpy()]
    return blocks


def _block(text: str) -> tuple[float, float, float]:
    try:
        block = parse_stage(text)[0]
    except UserError:
        return (np.nan,) * 3
    return block.kernel, block.width, np.nan if block.expand is None else block.expand


def _parse_shapes(shapes: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Width and size of ``1xCxHxW``; 0 where it is not of that form."""
    words = shapes.combine_chunks().dictionary_encode()
    found = [re.fullmatch(r"1x(\d+)x(\d+)x\2", text or "") for text in words.dictionary.to_pylist()]
    known = np.array([(int(m[1]), int(m[2])) if m else (0, 0) for m in found], np.int16).reshape(-1, 2)
    codes = words.indices.to_numpy(zero_copy_only=False)
    return known[codes, 0], known[codes, 1]


def of_hyperspace(hs: Hyperspace, key: np.ndarray, cin: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Which rows are sub-stages of the stage, type and window that their file is named for."""
    sound = np.zeros(len(key), bool)
    starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]).any(1)])
    for a, b in zip(starts, [*starts[1:], len(key)], strict=True):
        stage, block, window = map(int, key[a, :3])
        if stage >= len(hs.stages) or block not in hs.stages[stage].types or window >= hs.stages[stage].windows:
            continue
        elastic, part = hs.elastic(stage, block, window), blocks[a:b]
        here = part[:, :, 0] != 0  # NaN, what cannot be read, is among them and fails below
        expands = np.array([np.nan if e is None else e for e in elastic.block.expands], part.dtype)  # 0.2 is not float32's
        no_expand = np.isnan(part[:, :, 2]) & np.isnan(expands).any()
        good = np.isin(part[:, :, 0], elastic.block.kernels) & np.isin(part[:, :, 1], elastic.widths)
        good &= np.isin(part[:, :, 2], expands) | no_expand
        sound[a:b] = (good | ~here).all(1) & np.isin(here.sum(1), elastic.depths)
        sound[a:b] &= np.isin(cin[a:b], hs.input_widths(stage))
        if elastic.one_width:
            sound[a:b] &= (np.where(here, part[:, :, 1], part[:, :1, 1]) == part[:, :1, 1]).all(1)
    return sound


def _bad_line(path: Path, hs: Hyperspace, stage: int, block: int, window: int) -> UserError:
    """What is wrong with the first line of a file that cannot be."""
    elastic, sizes = hs.elastic(stage, block, window), {stage_input_hw(hs, r)[stage]: r for r in hs.lut_resolutions}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        fields = line.split(",")
        where = f"{path}:{number}"
        if len(fields) != 6:
            return UserError(f"{where}: {len(fields)} fields, must be config, shape, nsr, mmacs, mparams, ms")
        for name, text in zip(NUMBERS, fields[2:], strict=True):
            try:
                finite = bool(np.isfinite(float(text)))
            except ValueError:
                finite = False
            if not finite:
                return UserError(f"{where}: {name}={text.strip()}: must be a finite number")
        try:
            parse_stage(fields[0], elastic)
        except UserError as error:
            return UserError(f"{where}: not of hyperspace {hs.name} window {window}: {error}")
        shape = re.fullmatch(r"1x(\d+)x(\d+)x\2", fields[1])
        widths = hs.input_widths(stage)
        if shape is None or int(shape[1]) not in widths or int(shape[2]) not in sizes:
            allowed = f"1xCxHxH with C of {', '.join(map(str, widths))} and H of {', '.join(map(str, sizes))}"
            return UserError(f"{where}: input {fields[1]} is not of hyperspace {hs.name}: must be {allowed}")
    return UserError(f"{path}: cannot be read as lines of config, shape, nsr, mmacs, mparams, ms")
