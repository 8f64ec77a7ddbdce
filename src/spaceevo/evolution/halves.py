"""How far the luck of a table's rows decides which space is best: two halves of it, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np

from spaceevo.evolution.table import Key, Rows, Table
from spaceevo.space import SearchSpace


def halves(table: Table) -> tuple[Table, Table] | None:
    """Tables of a random half of each key's rows, the same every time, and of the others; None where a key has one row only."""
    if min(map(len, table.nsr.values())) < 2:
        return None
    rng = np.random.default_rng(0)
    of_first = {key: rng.permutation(len(values)) < len(values) // 2 for key, values in sorted(table.nsr.items())}
    return _part(table, of_first), _part(table, {key: ~which for key, which in of_first.items()})


def agreement(
    one: Callable[[SearchSpace], float], other: Callable[[SearchSpace], float], spaces: Sequence[SearchSpace]
) -> float:
    """Kendall's tau of the orders of ``spaces`` by two scores: 1 where they are the same."""
    from scipy.stats import kendalltau

    return float(kendalltau([one(space) for space in spaces], [other(space) for space in spaces]).statistic)


def _part(table: Table, which: dict[Key, np.ndarray]) -> Table:
    nsr, ms = ({key: values[which[key]] for key, values in part.items()} for part in (table.nsr, table.ms))
    rows = table.rows
    if rows is not None:
        kept = np.concatenate([which[key] for key in sorted(which)])
        rows = Rows(**{f.name: getattr(rows, f.name)[kept] for f in fields(Rows)})
    return replace(table, nsr=nsr, ms=ms, rows=rows)
