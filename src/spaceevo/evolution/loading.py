"""Reading an accuracy table, whichever form it is stored in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.files import Columns, of_hyperspace, origin_of, read_folder, read_parquet
from spaceevo.evolution.table import Ends, Table, assemble
from spaceevo.space import Hyperspace, load_hyperspace
from spaceevo.space.differences import LABELS, difference


def load_table(
    path: Path | str,
    hyperspace: Hyperspace | str,
    device: str | None = None,
    fixed_ms: Mapping[int, float] | None = None,
) -> Table:
    """Read a table: our ``lut.parquet``, or a folder of files ``stage<S>_<block type>_<window>.csv`` as the authors publish.

    A folder's rows have no stem, stage 0 or head: ``fixed_ms`` (ms per resolution) adds them, 0 where it is not given,
    as the release scores spaces. Limits mean the searched stages alone then. ``device``: whose milliseconds a folder's
    are. A folder once read is kept as arrays in ``$XDG_CACHE_HOME/spaceevo`` (``~/.cache/spaceevo``), and read again
    when a file of it changes.

    Raises:
        UserError: it lacks a stage, type, window or resolution of ``hyperspace`` (lists them); a row without a finite
            NSR or ms, or not of the hyperspace (names file and line); a ``device`` the hyperspace is not made for, or the
            table tells that it is of another hyperspace or device.
    """
    path = Path(path)
    hs = load_hyperspace(hyperspace) if isinstance(hyperspace, str) else hyperspace
    if path.is_dir():
        if device is not None and device != hs.device:
            raise UserError(f"device={device}: hyperspace {hs.name} and its table {path} are made for device={hs.device}")
        columns, ends = read_folder(path, hs), Ends({r: 0.0 for r in hs.lut_resolutions})
    else:
        check_origin(path, hs, device)
        columns, ends = read_parquet(path)
        _check_rows(path, hs, columns)
    given = {int(r): float(ms) for r, ms in (fixed_ms or {}).items()}
    table = assemble(hs, columns, replace(ends, call={**ends.call, **given}))
    _check_complete(path, table)
    return table


def check_origin(path: Path, hs: Hyperspace, device: str | None = None) -> None:
    """Raises:
    UserError: the ``lut.parquet`` tells that it is of another hyperspace (which field differs), or of another ``device``.
    """
    origin = origin_of(path)
    if origin is None:
        return
    where = difference(origin["hyperspace"], hs, LABELS)
    if where is not None:
        raise UserError(f"{path}: a table of another hyperspace, {origin['hyperspace']['name']}: {where}")
    if device is not None and origin["device"] != device:
        raise UserError(f"device={device}: the latencies of the table {path} are of device={origin['device']}")


def _check_rows(path: Path, hs: Hyperspace, columns: Columns) -> None:
    """A table that tells no origin has rows that do; block types are numbers in them, and mean what they mean here."""
    if "blocks" not in columns:
        return
    key = columns["key"]
    bad = ~of_hyperspace(hs, key, columns["cin"], columns["blocks"]) | ~np.isin(key[:, 3], hs.lut_resolutions)
    if bad.any():
        stage, block, window, resolution = key[np.argmax(bad)]
        where = f"stage {stage + 1} type {block} window {window} resolution {resolution}"
        raise UserError(
            f"{path}: of another hyperspace: row {np.argmax(bad)} ({where}) and {bad.sum() - 1} others are not of {hs.name}"
        )


def _check_complete(path: Path, table: Table) -> None:
    hs = table.hyperspace
    missing = [
        f"stage {s + 1} type {t} window {w} resolution {r}"
        for s, stage in enumerate(hs.stages)
        for t in stage.types
        for w in range(stage.windows)
        for r in table.resolutions
        if (s, t, w, r) not in table.nsr
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{path}: no rows of {', '.join(missing[:3])}{more} of hyperspace {hs.name}")
