"""How far the luck of a table's rows decides which space is best: two halves of it, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np

from spaceevo.evolution.table import Rows, Table
from spaceevo.space import SearchSpace


def halves(table: Table) -> tuple[Table, Table] | None:
    """Tables of every other row of each key, and of the others; None where a key has one row only."""
    if min(map(len, table.nsr.values())) < 2:
        return None
    return _every_other(table, 0), _every_other(table, 1)


Score = Callable[[SearchSpace], float]


def agreement(one: Score, other: Score, spaces: Sequence[SearchSpace]) -> float:
    """Kendall's tau of the orders of ``spaces`` by two scores: 1 where they are the same."""
    from scipy.stats import kendalltau

    return float(kendalltau([one(space) for space in spaces], [other(space) for space in spaces]).statistic)


def _every_other(table: Table, begin: int) -> Table:
    nsr, ms = ({key: values[begin::2] for key, values in part.items()} for part in (table.nsr, table.ms))
    rows = table.rows
    if rows is not None:
        place = np.concatenate([np.arange(len(table.nsr[key])) for key in sorted(table.nsr)])
        rows = Rows(**{f.name: getattr(rows, f.name)[place % 2 == begin] for f in fields(Rows)})
    return replace(table, nsr=nsr, ms=ms, rows=rows)
