"""The accuracy look-up table as arrays: what every elastic stage's sub-stages cost and lose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space import Hyperspace, SearchSpace

Key = tuple[int, int, int, int]  # stage (from 0), block type, width window, resolution


@dataclass(frozen=True)
class Table:
    """``nsr`` and ``ms`` of the sampled sub-stages per (stage, type, window, resolution); ``fixed_ms``: of stem, head
    and call, per resolution."""

    hyperspace: Hyperspace
    resolutions: tuple[int, ...]
    nsr: Mapping[Key, np.ndarray]
    ms: Mapping[Key, np.ndarray]
    fixed_ms: Mapping[int, float]

    def fastest_ms(self) -> float:
        """The smallest latency that any tabulated subnet of the hyperspace reaches."""
        return min(self._fastest_at(r) for r in self.resolutions)

    def worst_nsr(self) -> float:
        """The NSR sum of the worst rows of all stages: no tabulated subnet has a larger one."""
        stages = range(len(self.hyperspace.stages))
        return sum(max(float(v.max()) for key, v in self.nsr.items() if key[0] == s) for s in stages)

    def _fastest_at(self, resolution: int) -> float:
        stages = range(len(self.hyperspace.stages))
        rows = (min(float(v.min()) for key, v in self.ms.items() if key[0] == s and key[3] == resolution) for s in stages)
        return self.fixed_ms[resolution] + sum(rows)


def load_table(path: Path, hyperspace: Hyperspace) -> Table:
    """Read ``lut.parquet``.

    Raises:
        UserError: it lacks a stage, type, window or resolution of ``hyperspace`` (lists them), or holds a NaN.
    """
    import pyarrow.parquet as pq

    try:
        parquet = pq.read_table(path, columns=["stage", "type", "window", "resolution", "nsr", "ms"])
        fixed = {int(r): float(ms) for r, ms in json.loads(parquet.schema.metadata[b"fixed_ms"]).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not an accuracy table ({type(error).__name__}); make it with `python -m spaceevo.lut`"
        ) from None
    columns = {name: parquet[name].to_numpy() for name in parquet.column_names}
    bad = np.flatnonzero(~np.isfinite(columns["nsr"]) | ~np.isfinite(columns["ms"]))
    if len(bad):
        raise UserError(f"{path}: row {bad[0]} has no finite nsr and ms ({len(bad)} such rows)")
    keys = np.stack([columns["stage"] - 1, columns["type"], columns["window"], columns["resolution"]], 1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    rows = [np.flatnonzero(inverse.reshape(-1) == i) for i in range(len(unique))]
    named = [(int(k[0]), int(k[1]), int(k[2]), int(k[3])) for k in unique]
    nsr = {key: columns["nsr"][index] for key, index in zip(named, rows, strict=True)}
    ms = {key: columns["ms"][index] for key, index in zip(named, rows, strict=True)}
    table = Table(hyperspace, tuple(sorted(fixed)), nsr, ms, fixed)
    _check_complete(path, table)
    return table


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


def check_limits(table: Table, limits_ms: Sequence[float]) -> None:
    """Raises:
    UserError: a limit below the fastest subnet of the hyperspace, which it names.
    """
    fastest = table.fastest_ms()
    for limit in limits_ms:
        if limit < fastest:
            raise UserError(
                f"latency.limits_ms={limit:g}: below the fastest subnet; the smallest reachable is {fastest:.4g} ms"
            )


def as_space(space: SearchSpace | str, hyperspace: Hyperspace) -> SearchSpace:
    """A search space given as itself or as its encoding."""
    return SearchSpace.parse(space, hyperspace) if isinstance(space, str) else space
