"""The accuracy look-up table as arrays: what every elastic stage's sub-stages cost and lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space import Hyperspace, SearchSpace

Key = tuple[int, int, int, int]  # stage (from 0), block type, width window, resolution


@dataclass(frozen=True)
class Rows:
    """The table's rows, sorted by key, those of a key in the order of its file.

    ``key``: stage (from 0), block type, window, resolution ``[rows, 4]``; ``cin``, ``hw``: the sub-stage's input width
    and size; ``blocks``: kernel, width and expand (NaN: none) of every block ``[rows, deepest, 3]``, kernel 0 where the
    sub-stage has no such block; ``nsr``, ``ms``, ``mmacs``, ``mparams``.
    """

    key: np.ndarray
    cin: np.ndarray
    hw: np.ndarray
    blocks: np.ndarray
    nsr: np.ndarray
    mmacs: np.ndarray
    mparams: np.ndarray
    ms: np.ndarray

    def __len__(self) -> int:
        return len(self.nsr)

    @cached_property
    def depth(self) -> np.ndarray:
        """Blocks a sub-stage ``[rows]``."""
        return (self.blocks[:, :, 0] > 0).sum(1)

    @cached_property
    def last_width(self) -> np.ndarray:
        """The width of every sub-stage's output ``[rows]``."""
        return self.blocks[np.arange(len(self)), self.depth - 1, 1].astype(np.int64)


@dataclass(frozen=True)
class Ends:
    """ms of what surrounds a subnet's searched stages, by resolution: ``call``, of the call and whatever all subnets have
    alike; ``entry``: of stem and stage 0, by the width they put out; ``exit``: of the head, by the last stage's width."""

    call: Mapping[int, float]
    entry: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    exit: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    def beside(self, stages: int, rows: Rows) -> np.ndarray:
        """What comes with each row in a subnet of ``stages`` stages ``[rows]``: the entry with one of the first stage, the
        exit with one of the last."""
        total = np.zeros(len(rows))
        for stage, costs, width in ((0, self.entry, rows.cin), (stages - 1, self.exit, rows.last_width)):
            for resolution, by_width in costs.items():
                here = (rows.key[:, 0] == stage) & (rows.key[:, 3] == resolution)
                widths, which = np.unique(width[here], return_inverse=True)
                total[here] += np.array([by_width[int(w)] for w in widths])[which]
        return total


@dataclass(frozen=True)
class Table:
    """``nsr`` and ``ms`` of sub-stages per (stage, type, window, resolution), the ms of a first or last stage with those of
    the stem or head at its width; ``fixed_ms``: of the call, per resolution; ``rows``: the sub-stages with their
    configurations and their own ms, where the table's source has them."""

    hyperspace: Hyperspace
    resolutions: tuple[int, ...]
    nsr: Mapping[Key, np.ndarray]
    ms: Mapping[Key, np.ndarray]
    fixed_ms: Mapping[int, float]
    rows: Rows | None = None

    @cached_property
    def first_row(self) -> dict[Key, int]:
        """Where the rows of each key begin in ``rows``."""
        starts = np.cumsum([0, *(len(self.nsr[key]) for key in sorted(self.nsr))])
        return dict(zip(sorted(self.nsr), map(int, starts[:-1]), strict=True))

    def choices(self, stage: int) -> list[tuple[int, int]]:
        """The (block type, window) pairs of a stage (from 0), in the order of their encodings."""
        spec = self.hyperspace.stages[stage]
        return [(block, window) for block in spec.types for window in range(spec.windows)]

    def fastest_ms(self) -> float:
        """The smallest latency that any tabulated subnet of the hyperspace reaches."""
        return min(self._fastest_at(r) for r in self.resolutions)

    def slowest_ms(self) -> float:
        """A latency that no tabulated subnet of the hyperspace exceeds."""
        stages = range(len(self.hyperspace.stages))
        rows = (max(float(v.max()) for key, v in self.ms.items() if key[0] == s) for s in stages)
        return max(self.fixed_ms.values()) + sum(rows)

    def worst_nsr(self) -> float:
        """The NSR sum of the worst rows of all stages: no tabulated subnet has a larger one."""
        stages = range(len(self.hyperspace.stages))
        return sum(max(float(v.max()) for key, v in self.nsr.items() if key[0] == s) for s in stages)

    def _fastest_at(self, resolution: int) -> float:
        stages = range(len(self.hyperspace.stages))
        rows = (min(float(v.min()) for key, v in self.ms.items() if key[0] == s and key[3] == resolution) for s in stages)
        return self.fixed_ms[resolution] + sum(rows)


def assemble(hs: Hyperspace, columns: dict[str, np.ndarray], ends: Ends) -> Table:
    """A table of rows in any order: ``columns`` of ``Rows``, or of its ``key``, ``nsr`` and ``ms`` alone."""
    key = columns["key"]
    order = np.lexsort(key.T[::-1])
    if not (order[:-1] < order[1:]).all():
        columns = {name: values[order] for name, values in columns.items()}
        key = columns["key"]
    rows = Rows(**columns) if "blocks" in columns else None
    whole = columns["ms"] if rows is None else columns["ms"] + ends.beside(len(hs.stages), rows)
    starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]).any(1)]) if len(key) else np.empty(0, int)
    named = [(int(k[0]), int(k[1]), int(k[2]), int(k[3])) for k in key[starts]]
    parts = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(key)], strict=True)]
    nsr, ms = ({k: values[part] for k, part in zip(named, parts, strict=True)} for values in (columns["nsr"], whole))
    return Table(hs, tuple(sorted(ends.call)), nsr, ms, ends.call, rows)


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
