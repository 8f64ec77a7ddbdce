"""Draws whose widths fit: a stage's row has the input width that the row before it puts out.

The release, and ``draws.py``, add one row a stage whatever their widths, so that most draws are of no subnet that
exists. Here a draw's luck picks, in every stage, among the choice's rows of the width that has come so far (the first
stage's input is any: the tables do not hold stage 0). A draw that no row fits is lost: it meets no limit.
"""

from __future__ import annotations

import numpy as np

from spaceevo.errors import UserError
from spaceevo.evolution.draws import choices_of
from spaceevo.evolution.table import Table
from spaceevo.space import SearchSpace


class FittingDraws:
    """The same luck for all spaces; ``sums(space)``: NSR and ms of every draw ``[draws]``, float32, stem and head
    included."""

    def __init__(self, table: Table, draws: int, seed: int) -> None:
        """Raises:
        UserError: the table has no configurations, so that nothing is known of its widths.
        """
        from spaceevo.evolution.kernels import draw_fitting

        if table.rows is None:
            raise UserError("search_space.fitting=true: the table has no columns cin and config to fit widths by")
        hs, rows = table.hyperspace, table.rows
        ms = np.concatenate([table.ms[key] for key in sorted(table.ms)])
        rng = np.random.default_rng(seed)
        resolution = np.sort(rng.integers(len(table.resolutions), size=draws))
        luck = rng.random((len(hs.stages), draws))
        self.fixed = np.array([table.fixed_ms[r] for r in table.resolutions], np.float32)[resolution]
        slots = [(s, t, w, width) for s, t, w in choices_of(table) for width in (hs.input_widths(s) if s else (None,))]
        self._slot = {slot: i for i, slot in reversed(list(enumerate((s, t, w) for s, t, w, _ in slots)))}
        self._nsr, self._ms = np.empty((len(slots), draws), np.float32), np.empty((len(slots), draws), np.float32)
        self._next = np.zeros((len(slots), draws), np.int8)
        for i, (s, t, w, width) in enumerate(slots):
            after = np.array(hs.input_widths(s + 1) if s + 1 < len(hs.stages) else [0])
            fitting = []
            for r in table.resolutions:
                first, count = table.first_row[(s, t, w, r)], len(table.nsr[(s, t, w, r)])
                here = np.arange(first, first + count)
                fitting.append(here if width is None else here[rows.cin[here] == width])
            begins = np.cumsum([0, *map(len, fitting)])
            picks = np.concatenate(fitting)
            follows = np.searchsorted(after, rows.last_width[picks]) if len(after) > 1 else np.zeros(len(picks), int)
            draw_fitting(
                resolution, luck[s], begins, rows.nsr[picks], ms[picks], follows.astype(np.int8),
                self._nsr[i], self._ms[i], self._next[i],
            )  # fmt: skip

    def sums(self, space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
        """NSR and ms of every draw ``[draws]`` in ``space``; infinite where no row fits."""
        from spaceevo.evolution.kernels import chain

        slots = [self._slot[(s, t, w)] for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True))]
        return chain(np.array(slots), self._nsr, self._ms, self._next, self.fixed)
