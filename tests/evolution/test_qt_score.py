"""The Q-T score (paper equation 1) and the accuracy table that it draws from."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.atomic import write_parquet
from spaceevo.errors import UserError
from spaceevo.evolution import QTScore, Table, check_limits, load_table
from spaceevo.space import SearchSpace, load_hyperspace

HS = load_hyperspace("tiny")
KEYS = list(itertools.product(range(4), range(3), range(3), HS.lut_resolutions))  # stage, type, window, resolution
FIXED = {12: 0.3, 16: 0.5}
SPACES = ["tiny-0000-0000", "tiny-0121-2100", "tiny-2222-2222"]
WIDE = 1e9  # ms: a limit that everything meets


def small_table(rows: int = 6, seed: int = 0) -> Table:
    """A few random rows a key, not the same number everywhere."""
    rng = np.random.default_rng(seed)
    counts = {key: rows + key[0] % 2 for key in KEYS}
    nsr = {key: rng.uniform(0.1, 1, counts[key]) for key in KEYS}
    ms = {key: rng.uniform(0.05, 0.4, counts[key]) for key in KEYS}
    return Table(HS, tuple(HS.lut_resolutions), nsr, ms, FIXED)


TABLE = small_table()


def draws_of(table: Table, space: str, draws: int, seed: int) -> list[tuple[float, float]]:
    """NSR and ms of each of the score's random subnets, one by one."""
    rng = np.random.default_rng(seed)
    resolutions = np.sort(rng.integers(len(table.resolutions), size=draws))
    luck = rng.random((len(HS.stages), draws))
    parsed = SearchSpace.parse(space, HS)
    found = []
    for d in range(draws):
        resolution = table.resolutions[resolutions[d]]
        nsr, ms = 0.0, table.fixed_ms[resolution]
        for stage in range(4):
            key = (stage, parsed.types[stage], parsed.windows[stage], resolution)
            row = int(luck[stage, d] * len(table.nsr[key]))
            nsr, ms = nsr + float(table.nsr[key][row]), ms + float(table.ms[key][row])
        found.append((nsr, ms))
    return found


@pytest.mark.parametrize("space", SPACES)
def test_score_is_equation_1_on_the_same_draws(space: str) -> None:
    limits = [0.8, 1.0, 1.2, 1.6]
    found = draws_of(TABLE, space, 200, seed=3)
    expected = []
    for limit in limits:
        within = sorted(nsr for nsr, ms in found if ms <= limit)
        expected.append(-float(np.mean(within[:10])) if within else -TABLE.worst_nsr() * min(ms for _, ms in found) / limit)
    score = QTScore(TABLE, limits, draws=200, top=10, seed=3)
    np.testing.assert_allclose(score.per_limit(space), expected, rtol=1e-12)
    assert score(space) == pytest.approx(sum(expected)) == score(SearchSpace.parse(space, HS))


def test_score_of_a_table_of_single_rows_is_their_sum() -> None:
    one = Table(HS, (16,), {k: np.array([0.1 * (k[0] + 1)]) for k in KEYS}, {k: np.array([0.25]) for k in KEYS}, {16: 1.0})
    score = QTScore(one, [2.0, 1.999], draws=50, top=5)
    assert score.per_limit("tiny-0000-0000") == pytest.approx([-1.0, -1.0 * 2.0 / 1.999])


@pytest.mark.parametrize("mode", ["sampled", "exact"])
def test_a_limit_below_the_fastest_subnet_is_unmet_whatever_draws_meet_it(mode: str) -> None:
    limits = [1.6, 1.0, 1.2]
    free = QTScore(TABLE, limits, draws=200, top=10, mode=mode)
    score = QTScore(TABLE, limits, draws=200, top=10, mode=mode, fastest=lambda space: 1.1)
    for space in SPACES:
        drawn, known = free.per_limit(space), score.per_limit(space)
        assert (drawn > -TABLE.worst_nsr()).all()  # draws of all spaces meet all limits
        assert known.tolist() == [drawn[0], pytest.approx(-1.1 * TABLE.worst_nsr()), drawn[2]]


def test_same_seed_same_score() -> None:
    def scores(seed: int) -> list[float]:
        return [QTScore(TABLE, [1.0], draws=100, top=5, seed=seed)(space) for space in SPACES]

    assert scores(1) == scores(1) != scores(2)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SPACES), st.lists(st.floats(0.2, 3), min_size=2, max_size=6))
def test_score_never_falls_with_the_limit_where_enough_draws_meet_it(space: str, limits: list[float]) -> None:
    top, draws = 5, 300
    ms = [ms for _, ms in draws_of(TABLE, space, draws, seed=0)]
    limits = sorted(limit for limit in limits if not 0 < sum(m <= limit for m in ms) < top)
    if limits:
        qualities = QTScore(TABLE, limits, draws=draws, top=top, seed=0).per_limit(space)
        assert np.all(np.diff(qualities) >= -1e-12)


def test_limit_that_no_draw_meets_scores_below_every_met_one_and_by_nearness() -> None:
    fastest = TABLE.fastest_ms()
    limits = [0.2 * fastest, 0.5 * fastest, 0.99 * fastest, WIDE]
    score = QTScore(TABLE, limits, draws=300, top=5)
    spaces = [SearchSpace.sample(HS, np.random.default_rng(seed)) for seed in range(30)]
    quality = np.array([score.per_limit(space) for space in spaces])
    assert quality[:, :3].max() < -TABLE.worst_nsr() <= quality[:, 3].min()
    assert np.all(np.diff(quality, axis=1) > 0)
    nearest = [min(ms for _, ms in draws_of(TABLE, str(space), 300, seed=0)) for space in spaces]
    for column in range(3):
        assert list(np.argsort(-quality[:, column])) == list(np.argsort(nearest))


def test_more_draws_come_nearer_to_the_expected_mean_of_the_top_tier() -> None:
    space = SearchSpace.parse(SPACES[1], HS)
    every = []  # (probability, nsr, ms) of every subnet of the table
    for resolution in TABLE.resolutions:
        keys = [(s, space.types[s], space.windows[s], resolution) for s in range(4)]
        combinations = list(itertools.product(*(zip(TABLE.nsr[k], TABLE.ms[k], strict=True) for k in keys)))
        for rows in combinations:
            nsr, ms = (sum(row[i] for row in rows) for i in (0, 1))
            every.append((0.5 / len(combinations), nsr, ms + FIXED[resolution]))
    limit = float(np.quantile([ms for _, _, ms in every], 0.5))
    tier, mass, total = 0.05, 0.0, 0.0  # the best 5 % of all draws, among those within the limit
    for probability, nsr, ms in sorted(every, key=lambda row: row[1]):
        if ms <= limit and mass < tier:
            taken = min(probability, tier - mass)
            mass, total = mass + taken, total + taken * nsr
    expected = -total / mass

    def error(draws: int) -> float:
        scores = [QTScore(TABLE, [limit], draws, top=round(tier * draws), seed=seed)(space) for seed in range(12)]
        return float(np.abs(np.array(scores) - expected).mean())

    assert error(20000) < 0.01 < error(100)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_limit_that_cannot_be_is_refused(limit: float) -> None:
    with pytest.raises(UserError, match=r"latency\.limits_ms=.*: must be above 0"):
        QTScore(TABLE, [1.0, limit])


# The table's file


def frame_of(table: Table) -> pd.DataFrame:
    rows = [
        dict(stage=s + 1, type=t, window=w, resolution=r, nsr=float(nsr), ms=float(ms))
        for s, t, w, r in KEYS
        for nsr, ms in zip(table.nsr[s, t, w, r], table.ms[s, t, w, r], strict=True)
    ]
    return pd.DataFrame(rows)


def test_table_reads_back(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "lut.parquet", frame_of(TABLE).sample(frac=1, random_state=0), {"fixed_ms": FIXED})
    table = load_table(path, HS)
    assert (table.resolutions, table.fixed_ms) == (TABLE.resolutions, FIXED)
    assert set(table.nsr) == set(KEYS) == set(table.ms)
    for key in KEYS:  # a row's NSR and ms stay together
        pairs = zip(table.nsr[key], table.ms[key], strict=True)
        assert sorted(pairs) == sorted(zip(TABLE.nsr[key], TABLE.ms[key], strict=True))


def test_missing_rows_are_listed(tmp_path: Path) -> None:
    frame = frame_of(TABLE)
    gone = (frame.stage == 3) & (frame.type == 1) & (frame.window == 2) & (frame.resolution == 16)
    path = write_parquet(tmp_path / "lut.parquet", frame[~gone], {"fixed_ms": FIXED})
    with pytest.raises(UserError) as error:
        load_table(path, HS)
    assert str(error.value) == f"{path}: no rows of stage 3 type 1 window 2 resolution 16 of hyperspace tiny"
    path = write_parquet(path, frame[frame.stage != 2], {"fixed_ms": FIXED})
    with pytest.raises(UserError, match=r"no rows of stage 2 type 0 window 0 resolution 12, .* and 15 more of hyperspace tiny"):
        load_table(path, HS)


@pytest.mark.parametrize(("column", "value"), [("nsr", np.nan), ("ms", np.nan), ("ms", np.inf)])
def test_rows_without_a_number_are_named(tmp_path: Path, column: str, value: float) -> None:
    frame = frame_of(TABLE)
    frame.loc[[7, 9], column] = value
    path = write_parquet(tmp_path / "lut.parquet", frame, {"fixed_ms": FIXED})
    with pytest.raises(UserError, match=r"lut\.parquet: row 7 has no finite nsr and ms \(2 such rows\)"):
        load_table(path, HS)


def test_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    text, other, bare = tmp_path / "text.parquet", tmp_path / "other.parquet", tmp_path / "bare.parquet"
    text.write_text("stage,type\n")
    write_parquet(other, pd.DataFrame({"stage": [1]}), {"fixed_ms": FIXED})
    write_parquet(bare, frame_of(TABLE))
    for path in (text, other, bare, tmp_path / "absent.parquet"):
        with pytest.raises(UserError, match=rf"{path.name}: not an accuracy table .*python -m spaceevo\.lut"):
            load_table(path, HS)


def test_table_without_any_metadata_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "lut.parquet"
    pq.write_table(pa.Table.from_pandas(frame_of(TABLE)).replace_schema_metadata(None), path)
    with pytest.raises(UserError, match="not an accuracy table"):
        load_table(path, HS)


def test_limit_below_the_fastest_subnet_names_the_smallest_reachable() -> None:
    per_resolution = []
    for resolution, fixed in FIXED.items():
        rows = [min(TABLE.ms[s, t, w, resolution].min() for t in range(3) for w in range(3)) for s in range(4)]
        per_resolution.append(fixed + sum(rows))
    fastest = min(per_resolution)
    assert TABLE.fastest_ms() == pytest.approx(fastest)
    check_limits(TABLE, [fastest + 1e-9, WIDE])
    with pytest.raises(UserError) as error:
        check_limits(TABLE, [WIDE, 0.2])
    assert str(error.value) == (f"latency.limits_ms=0.2: below the fastest subnet; the smallest reachable is {fastest:.4g} ms")


def test_worst_nsr_bounds_every_draw() -> None:
    worst = TABLE.worst_nsr()
    for space in SPACES:
        assert max(nsr for nsr, _ in draws_of(TABLE, space, 200, seed=0)) <= worst
    assert worst == pytest.approx(sum(max(TABLE.nsr[k].max() for k in KEYS if k[0] == s) for s in range(4)))
