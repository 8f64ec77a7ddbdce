"""Branch and bound finds what trying every space finds; proxies recover what a table was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evolution.tables import HS, PUBLISHED, needs_published, write_folder

from spaceevo.errors import UserError
from spaceevo.evolution import (
    QTScore,
    Table,
    aging_evolution,
    exhaustive,
    exhaustive_search,
    fit_nsr,
    load_table,
    random_search,
    recover_blocks,
)
from spaceevo.evolution.aging import Evolution
from spaceevo.space import SearchSpace, Subnet, load_hyperspace


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return load_table(write_folder(tmp_path_factory.mktemp("exhaustive") / "lut", rows=20), HS)


def rough_table(seed: int, rows: int = 9) -> Table:
    """Without any order among the choices."""
    rng = np.random.default_rng(seed)
    keys = [(s, t, w, r) for s in range(4) for t in range(3) for w in range(3) for r in (12, 16)]
    nsr, ms = ({key: rng.uniform(0.5, 1) + rng.uniform(0, 0.3, rows) for key in keys} for _ in range(2))
    return Table(HS, (12, 16), nsr, ms, {12: 0.0, 16: 0.1})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threads", [1, 2])
def test_no_space_is_better_than_what_branch_and_bound_finds(seed: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor_start(score: QTScore, seed: int) -> Evolution:
        return random_search(score, 1, seed)  # all has to come from the search itself

    monkeypatch.setattr(exhaustive, "aging_evolution", poor_start)
    score = QTScore(rough_table(seed), [2.4, 3.0, 4.0], draws=150, top=6, seed=seed)
    found = exhaustive_search(score, threads)
    best = max(score(space) for space in SearchSpace.all(HS))
    assert found.score == score(found.space) == best


@pytest.fixture
def short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches begin with the best of few spaces: the others have to come from themselves."""
    monkeypatch.setattr(exhaustive, "aging_evolution", lambda score, seed: aging_evolution(score, 20, 5, 60, seed))


@pytest.mark.usefixtures("short_start")
@pytest.mark.parametrize("mode", ["sampled", "exact"])
def test_branch_and_bound_finds_the_best_that_has_a_subnet_within_the_limits(mode: str) -> None:
    def fastest(space: SearchSpace) -> float:
        return 2.1 + sum(space.windows) / 10  # of windows 0 or little more

    table = rough_table(2, rows=5)
    free = QTScore(table, [2.4, 3.0, 4.0], draws=150, top=6, mode=mode)
    score = QTScore(table, [2.4, 3.0, 4.0], draws=150, top=6, mode=mode, fastest=fastest)
    assert fastest(exhaustive_search(free).space) > 2.4
    found = exhaustive_search(score)
    assert found.score == max(score(space) for space in SearchSpace.all(HS)) and fastest(found.space) <= 2.4


@pytest.mark.usefixtures("short_start")
def test_stopped_exhaustive_search_goes_on(table: Table, tmp_path: Path) -> None:
    score, checkpoint = QTScore(table, [2 * table.fastest_ms(), 1.0], draws=150, top=5), tmp_path / "exhaustive.json"
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exhaustive_search(score, 1, progress=stop, checkpoint=checkpoint)
    assert seen[-1] == (20, 81)
    again: list[int] = []
    found = exhaustive_search(score, 1, progress=lambda done, _: again.append(done), checkpoint=checkpoint)
    assert found == exhaustive_search(score, 2) and again[0] > 20 and again[-1] == 81


@pytest.mark.parametrize("seed", range(4))
def test_no_space_has_a_better_exact_score_than_exhaustive_search_finds(seed: int) -> None:
    """The bar is set by a poor space, so all has to come from the search; a limit that luck decides is among them."""
    table = rough_table(seed, rows=4)
    limits = [1.05 * table.fastest_ms(), 2.6, 4.0]
    score = QTScore(table, limits, draws=150, top=6, mode="exact")
    every = {str(space): score(space) for space in SearchSpace.all(HS)}
    started = sorted(every, key=every.__getitem__)[-40]
    with pytest.MonkeyPatch.context() as patch:
        start = Evolution(SearchSpace.parse(started, HS), every[started], [])
        patch.setattr(exhaustive, "aging_evolution", lambda score, seed: start)
        parts: list[tuple[int, int]] = []
        found = exhaustive_search(score, 2, seed, lambda done, total: parts.append((done, total)))
    assert parts[-1] == (3 * 81, 3 * 81)  # under three sets of draws
    assert found.score == max(every.values()) == every[str(found.space)]


def test_exhaustive_search_wants_rows_that_any_stage_may_join(table: Table) -> None:
    with pytest.raises(UserError, match=r"search=exhaustive: needs search_space\.fitting=false"):
        exhaustive_search(QTScore(table, [1.0], fitting=True))


@pytest.mark.parametrize(("dimensions", "kept"), [("op", "windows"), ("width", "types")])
def test_search_in_one_dimension_keeps_the_other(table: Table, dimensions: str, kept: str) -> None:
    score, base = QTScore(table, [1.0], draws=100, top=5), SearchSpace.parse("tiny-0120-2011", HS)
    for search in (aging_evolution, random_search):
        sizes = dict(population=20, sample=5) if search is aging_evolution else {}
        history = search(score, evaluations=60, dimensions=dimensions, base=base, **sizes).history  # type: ignore[arg-type]
        spaces = [SearchSpace.parse(i.space, HS) for i in history]
        assert len(history) == 60 and all(getattr(space, kept) == getattr(base, kept) for space in spaces)
        assert len({i.space for i in history}) > 20
    with pytest.raises(UserError, match=rf"search_space\.dimensions={dimensions}: needs search_space\.base="):
        aging_evolution(score, 20, 5, 60, dimensions=dimensions)


def test_blocks_of_an_additive_table_are_recovered(table: Table) -> None:
    """Latencies made of blocks come back block by block, for subnets that the table has no row of too."""
    from spaceevo.evolution.block_latency import _block_table

    assert table.rows is not None
    row, blocks = _block_table(HS, table.rows)
    truth = blocks[:, 1] * blocks[:, 3] * np.sqrt(blocks[:, 2] * blocks[:, 4]) / 1e3 + 0.01 * blocks[:, 0]
    additive = replace(table, rows=replace(table.rows, ms=np.bincount(row, truth, len(table.rows))))
    latency = recover_blocks(additive)
    assert latency.residual < 1e-6
    single = np.isin(row, np.flatnonzero(table.rows.depth == 1))
    np.testing.assert_allclose(latency.ms(blocks[single]), truth[single], rtol=1e-4)
    assert np.all(latency.ms(blocks[0] + np.eye(7)[2]) > 0)  # a width that no row has: the ensemble answers
    bare = replace(table, rows=None)
    with pytest.raises(UserError, match="no columns cin, hw and config"):
        recover_blocks(bare)


def test_nsr_model_ranks_sub_stages_that_it_has_not_seen(table: Table) -> None:
    model = fit_nsr(table, held_out=0.2)
    assert set(model.held_out) == {block.type for block in HS.blocks}
    assert all(error["rmse"] < 0.1 for error in model.held_out.values())
    rng = np.random.default_rng(0)
    good, bad = SearchSpace.parse("tiny-0000-2222", HS), SearchSpace.parse("tiny-2222-0000", HS)
    better, worse = (model.quality([Subnet.sample(space, rng) for _ in range(20)]) for space in (good, bad))
    assert better.shape == (20,) and better.min() > worse.max()


@needs_published
@pytest.mark.slow
def test_branch_and_bound_misses_nothing_of_a_part_of_onnxw(monkeypatch: pytest.MonkeyPatch) -> None:
    """131,072 spaces of the published table, all scored one by one, and searched from a poor start."""
    whole = load_hyperspace("onnxw")
    stages = tuple(replace(s, types=(2, 5), widths=s.widths[: s.window + 3]) for s in whole.stages)
    hs = replace(whole, stages=stages)
    table = replace(load_table(PUBLISHED / "onnxw", whole), hyperspace=hs)
    monkeypatch.setattr(exhaustive, "aging_evolution", lambda score, seed: random_search(score, 1, seed))
    score = QTScore(table, [8, 10, 15, 20, 25])
    assert exhaustive_search(score).score == max(score(space) for space in SearchSpace.all(hs))


@needs_published
@pytest.mark.slow
def test_published_latencies_are_additive_over_blocks_and_nsr_is_predictable() -> None:
    table = load_table(PUBLISHED / "onnxw", "onnxw")
    assert recover_blocks(table).residual < 2e-4  # printed to 1e-4, of rows of up to 57 ms; errors count relative to them
    assert all(error["r2"] > 0.99 for error in fit_nsr(table).held_out.values())
