"""The exact score is what the sampled one estimates; the true top of a space; sub-stages whose widths fit."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from evolution.repeats import mean_score
from evolution.tables import HS, LIMITS, PUBLISHED, REFERENCE, needs_published, write_folder

from spaceevo.errors import UserError
from spaceevo.evolution import QTScore, Table, exact, load_table, top_subnet
from spaceevo.space import SearchSpace

SPACES = ["tiny-0000-0000", "tiny-0121-2100", "tiny-2222-2222"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return load_table(write_folder(tmp_path_factory.mktemp("exact") / "lut", rows=40), HS)


def repeated(table: Table, spaces: list[str], limits: list[float], draws: int, top: int, times: int) -> np.ndarray:
    """Sampled scores ``[times, spaces, limits]``, each time with other luck."""
    scores = (QTScore(table, limits, draws, top, seed) for seed in range(1000, 1000 + times))
    return np.array([[score.per_limit(space) for space in spaces] for score in scores])


def test_exact_score_is_the_mean_of_sampled_ones(table: Table) -> None:
    """Also where a limit is met by few draws, by no more than are averaged, or by none."""
    ms = [top.ms for space in SPACES if (top := top_subnet(table, space, 1e9))]
    fastest = table.fastest_ms()
    limits = [0.9 * fastest, 1.02 * fastest, 1.3 * fastest, 2 * fastest, max(ms)]
    found = repeated(table, SPACES, limits, draws=200, top=8, times=400)
    score = QTScore(table, limits, draws=200, top=8, mode="exact")
    expected = np.array([score.per_limit(space) for space in SPACES])
    error = found.std(0) / 400**0.5
    assert np.all(np.abs(found.mean(0) - expected) <= 4.5 * error + 1e-6)
    assert ((found < -table.worst_nsr()).mean((0, 1)) > 0).sum() >= 2  # limits that luck decides are among them


def test_transforms_give_what_enumeration_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the million subnets of a space without gaps, all sums or their transforms."""
    rng = np.random.default_rng(0)
    keys = list(itertools.product(range(4), range(3), range(3), (12, 16)))
    nsr, ms = ({key: rng.uniform(0.1, 1, 30) for key in keys} for _ in range(2))
    smooth = Table(HS, (12, 16), nsr, ms, {12: 0.0, 16: 0.1})
    limits = [0.9 * smooth.fastest_ms(), 1.5, 2.0, 1e6]
    found = []
    for most in (10**7, 0):
        monkeypatch.setattr(exact, "ENUMERATED", most)
        score = QTScore(smooth, limits, draws=500, top=20, mode="exact")
        found.append([score.per_limit(space) for space in SPACES[1:]])
    assert not np.array_equal(*found)
    np.testing.assert_allclose(*found, rtol=3e-3)


def test_exact_score_has_no_luck_and_takes_limits_in_any_order(table: Table) -> None:
    limits = [2 * table.fastest_ms(), 1.2 * table.fastest_ms(), 5.0]
    one, other = QTScore(table, limits, mode="exact", seed=1), QTScore(table, limits[::-1], mode="exact", seed=2)
    sampled = QTScore(table, limits, seed=1), QTScore(table, limits[::-1], seed=1)
    for space in SPACES:
        np.testing.assert_array_equal(one.per_limit(space), other.per_limit(space)[::-1])
        np.testing.assert_array_equal(sampled[0].per_limit(space), sampled[1].per_limit(space)[::-1])


def test_top_of_a_space_is_the_best_of_all_combinations() -> None:
    rng = np.random.default_rng(3)
    keys = list(itertools.product(range(4), range(3), range(3), (12, 16)))
    nsr, ms = ({key: rng.uniform(0.1, 1, 6) for key in keys} for _ in range(2))
    table, space = Table(HS, (12, 16), nsr, ms, {12: 0.2, 16: 0.1}), SearchSpace.parse(SPACES[1], HS)
    for limit in (0.5, 1.2, 1.6, 2.5, 9.0):
        every = []
        for r in (12, 16):
            mine = [(s, t, w, r) for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True))]
            for rows in itertools.product(range(6), repeat=4):
                cost = table.fixed_ms[r] + sum(ms[key][i] for key, i in zip(mine, rows, strict=True))
                every.append((sum(nsr[key][i] for key, i in zip(mine, rows, strict=True)), cost, r, rows))
        within = [entry for entry in every if entry[1] <= limit]
        top = top_subnet(table, space, limit)
        if not within:
            assert top is None
            continue
        best = min(within)
        assert top is not None and (top.resolution, top.rows) == best[2:]
        assert (top.nsr, top.ms) == pytest.approx(best[:2])


def test_fitting_draws_join_only_widths_that_fit(table: Table) -> None:
    rows, space = table.rows, SearchSpace.parse(SPACES[1], HS)
    assert rows is not None
    score = QTScore(table, [1e9], draws=300, top=300, seed=5, fitting=True)
    rng = np.random.default_rng(5)
    resolution, luck = np.sort(rng.integers(2, size=300)), rng.random((4, 300))
    totals = []
    for d in range(300):
        nsr, width = 0.0, None
        for s, (t, w) in enumerate(zip(space.types, space.windows, strict=True)):
            key = (s, t, w, table.resolutions[resolution[d]])
            index = table.first_row[key] + np.arange(len(table.nsr[key]))
            fitting = index if width is None else index[rows.cin[index] == width]
            if len(fitting) == 0:
                break
            row = fitting[int(luck[s, d] * len(fitting))]
            nsr, width = nsr + rows.nsr[row], rows.last_width[row]
        else:
            totals.append(nsr)
    assert len(totals) > 100
    assert score(space) == pytest.approx(-np.mean(totals), rel=1e-5)


def test_unknown_mode_and_fitting_exactly_are_refused(table: Table) -> None:
    with pytest.raises(UserError, match=r"search_space\.mode=best: no such mode; there are: sampled, exact"):
        QTScore(table, [1.0], mode="best")
    with pytest.raises(UserError, match=r"search_space\.fitting=true: needs search_space\.mode=sampled"):
        QTScore(table, [1.0], mode="exact", fitting=True)
    with pytest.raises(UserError, match=r"search_space\.top=20: must be from 1 to draws=10"):
        QTScore(table, [1.0], draws=10)


@needs_published
@pytest.mark.slow
@pytest.mark.parametrize("name", list(LIMITS))
def test_exact_score_of_published_spaces_is_within_a_thousandth_of_repeated_sampled_ones(name: str) -> None:
    """Of as many repeats as it takes to know their mean to 0.03 %: 1,000, or up to 100,000 where luck decides a limit."""
    table = load_table(PUBLISHED / name, name)
    rng = np.random.default_rng(7)
    spaces = [
        *(SearchSpace.sample(table.hyperspace, rng) for _ in range(29)),
        SearchSpace.parse(REFERENCE[name], table.hyperspace),
    ]
    score = QTScore(table, LIMITS[name], mode="exact")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda space: mean_score(table, space, LIMITS[name], 5000, 20, 3e-4, 100_000), spaces))
    for space, (mean, error, times) in zip(spaces, found, strict=True):
        assert times >= 1000 and error < 4e-4
        assert score(space) == pytest.approx(mean, rel=1e-3), space
