"""The fixed random draws that a sampled Q-T score compares all spaces on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.evolution.table import Table
from spaceevo.space import SearchSpace


@dataclass(frozen=True)
class Draws:
    """``n`` subnets of every space at once: each draw has its resolution, and each stage its luck, which picks a row
    of whichever choice (block type and window) the stage has.

    ``nsr``, ``ms``: of every draw's sub-stage for every choice ``[choices, n]``, float32 in single blocks of memory;
    ``stage_choices``: where each stage's choices begin; ``fixed``: ms of stem and head a draw ``[n]``.
    ``rows_*``, ``first``, ``count``: the table's rows in float64 and, by choice and resolution, where they are.
    """

    table: Table
    resolution: np.ndarray
    luck: np.ndarray
    rows_nsr: np.ndarray
    rows_ms: np.ndarray
    first: np.ndarray
    count: np.ndarray
    stage_choices: np.ndarray
    fixed: np.ndarray
    nsr: np.ndarray
    ms: np.ndarray

    @staticmethod
    def make(table: Table, n: int, seed: int) -> Draws:
        """The same for the same ``seed``: resolutions uniform, rows uniform within the resolution."""
        from spaceevo.evolution.kernels import draw_rows

        rng = np.random.default_rng(seed)
        resolution = np.sort(rng.integers(len(table.resolutions), size=n))
        luck = rng.random((len(table.hyperspace.stages), n))
        keys = [(s, t, w, r) for s, t, w in choices_of(table) for r in table.resolutions]
        count = np.array([len(table.nsr[key]) for key in keys]).reshape(-1, len(table.resolutions))
        first = np.r_[0, np.cumsum(count)[:-1]].reshape(count.shape)
        rows_nsr, rows_ms = (np.concatenate([part[key] for key in keys]).astype(float) for part in (table.nsr, table.ms))
        stage_of = np.array([s for s, _, _ in choices_of(table)])
        fixed = np.array([table.fixed_ms[r] for r in table.resolutions])[resolution]
        nsr, ms = np.empty((len(count), n), np.float32), np.empty((len(count), n), np.float32)
        draw_rows(stage_of, resolution, luck, rows_nsr, rows_ms, first, count, nsr, ms)
        begins = np.searchsorted(stage_of, np.arange(len(table.hyperspace.stages) + 1))
        return Draws(table, resolution, luck, rows_nsr, rows_ms, first, count, begins, fixed, nsr, ms)

    def chosen(self, space: SearchSpace) -> np.ndarray:
        """The index among all choices of each stage's ``[stages]``."""
        return chosen(self.table, self.stage_choices, space)


def choices_of(table: Table) -> list[tuple[int, int, int]]:
    """Every (stage, block type, window), sorted."""
    return [(s, *choice) for s in range(len(table.hyperspace.stages)) for choice in table.choices(s)]


def chosen(table: Table, begins: np.ndarray, space: SearchSpace) -> np.ndarray:
    """The index among ``choices_of`` of each stage's choice ``[stages]``."""
    specs = table.hyperspace.stages
    within = [spec.types.index(t) * spec.windows + w for spec, t, w in zip(specs, space.types, space.windows, strict=True)]
    return begins[:-1] + np.array(within)
