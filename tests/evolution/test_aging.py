"""Aging evolution over search spaces (paper section 4.4): who joins, who leaves, and what it finds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from spaceevo.errors import UserError
from spaceevo.evolution import Evolution, QTScore, Table, aging_evolution, random_search
from spaceevo.evolution.aging import CHECKPOINT_EVERY
from spaceevo.space import SearchSpace, load_hyperspace

HS = load_hyperspace("tiny")
POPULATION = 40


def new_score() -> QTScore:
    """A score on a made-up table in which every type and window has a quality of its own."""
    rng = np.random.default_rng(0)
    keys = list(itertools.product(range(4), range(3), range(3), (16,)))
    nsr = {key: rng.uniform(0, 1) + rng.uniform(0, 0.2, 5) for key in keys}
    ms = {key: rng.uniform(0.05, 0.2) + rng.uniform(0, 0.05, 5) for key in keys}
    return QTScore(Table(HS, (16,), nsr, ms, {16: 0.1}), [0.5, 0.7], draws=60, top=5)


@pytest.fixture(scope="module")
def score() -> QTScore:
    return new_score()


def evolve(score: QTScore, evaluations: int = 161, sample: int = 10, seed: int = 0, **more: object) -> Evolution:
    return aging_evolution(score, POPULATION, sample, evaluations, seed, **more)  # type: ignore[arg-type]


def test_same_seed_same_evolution(score: QTScore) -> None:
    assert evolve(score, seed=1) == evolve(new_score(), seed=1)
    assert evolve(score, seed=1).history != evolve(score, seed=2).history


@pytest.mark.parametrize("evaluations", [1, POPULATION, POPULATION + 1, POPULATION + 2, 161])
def test_exactly_the_asked_number_is_evaluated(score: QTScore, evaluations: int) -> None:
    seen: list[int] = []
    history = evolve(score, evaluations, progress=seen.append).history
    assert [i.birth for i in history] == list(range(evaluations))
    assert seen[-1] == evaluations and seen == sorted(set(seen))
    for individual in history:
        assert individual.per_limit == tuple(score.per_limit(individual.space))
        assert individual.score == pytest.approx(score(individual.space))


@pytest.mark.parametrize("seed", range(5))
def test_best_ever_seen_wins_even_when_it_has_died(score: QTScore, seed: int) -> None:
    result = evolve(score, sample=1, seed=seed)  # without selection the best is soon forgotten
    best = max(result.history, key=lambda i: i.score)
    assert (str(result.space), result.score) == (best.space, best.score)


def test_children_differ_in_the_type_or_the_width_of_one_stage(score: QTScore) -> None:
    history = evolve(score).history
    assert {(i.parent, i.mutation) for i in history[:POPULATION]} == {(-1, "random")}
    assert [i.mutation for i in history[POPULATION:]] == ["type", "width"] * 60 + ["type"]
    for typed, moved in itertools.zip_longest(history[POPULATION::2], history[POPULATION + 1 :: 2]):
        parent = SearchSpace.parse(history[typed.parent].space, HS)
        child = SearchSpace.parse(typed.space, HS)
        stages = [i for i in range(4) if parent.types[i] != child.types[i]]
        assert len(stages) == 1 and child.windows == parent.windows
        if moved is not None:
            assert moved.parent == typed.parent
            child = SearchSpace.parse(moved.space, HS)
            assert [i for i in range(4) if parent.windows[i] != child.windows[i]] == stages and child.types == parent.types


def test_two_oldest_leave(score: QTScore) -> None:
    history = evolve(score, sample=POPULATION).history  # with all sampled the parent is the best of those alive
    for child in history[POPULATION::2]:
        alive = history[child.birth - POPULATION : child.birth]
        assert child.parent >= child.birth - POPULATION
        assert history[child.parent].score == max(i.score for i in alive)
    ever = [max(i.score for i in history[: child.birth]) for child in history[POPULATION::2]]
    parents = [history[child.parent].score for child in history[POPULATION::2]]
    assert parents != ever  # a best one did die of age


def test_parent_is_the_best_of_a_random_sample(score: QTScore) -> None:
    history = evolve(score, sample=10, evaluations=400).history
    ranks = []
    for child in history[POPULATION::2]:
        alive = sorted((i.score for i in history[child.birth - POPULATION : child.birth]), reverse=True)
        ranks.append(alive.index(history[child.parent].score))
        assert ranks[-1] <= POPULATION - 10  # nine of the sample are no better
    assert 0 < np.mean(ranks) < 8  # of 40, about (40 - 10) / (10 + 1)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("population", [POPULATION, POPULATION + 1])
def test_stopped_search_goes_on_to_the_result_of_an_undisturbed_one(score: QTScore, tmp_path: Path, population: int) -> None:
    evaluations, checkpoint = CHECKPOINT_EVERY + 90, tmp_path / "evolution.json"

    def run(**more: object) -> Evolution:
        return aging_evolution(score, population, 10, evaluations, seed=4, **more)  # type: ignore[arg-type]

    def stop(done: int) -> None:
        if done > CHECKPOINT_EVERY + 50:
            raise Stopped

    with pytest.raises(Stopped):
        run(checkpoint=checkpoint, progress=stop)
    resumed: list[int] = []
    again = run(checkpoint=checkpoint, progress=resumed.append)
    assert again == run()
    assert CHECKPOINT_EVERY <= resumed[0] < CHECKPOINT_EVERY + 5  # it did not begin anew


def test_evolution_finds_the_optimum_and_beats_random_search(score: QTScore) -> None:
    best = max(score(space) for space in SearchSpace.all(HS))
    evolved = [aging_evolution(score, 50, 20, 800, seed).score for seed in range(5)]
    random = [random_search(score, 800, seed).score for seed in range(5)]
    assert max(evolved) == pytest.approx(best)
    assert all(value <= best + 1e-12 for value in [*evolved, *random])
    assert np.mean(evolved) > np.mean(random)


def test_random_search_tries_random_spaces_only(score: QTScore) -> None:
    result = random_search(score, 100, seed=3)
    assert [(i.birth, i.parent, i.mutation) for i in result.history] == [(n, -1, "random") for n in range(100)]
    assert result.score == max(i.score for i in result.history)


@pytest.mark.parametrize("sample", [0, -1, POPULATION + 1])
def test_impossible_sample_is_refused(score: QTScore, sample: int) -> None:
    with pytest.raises(UserError, match=rf"search_space\.sample={sample}: must be from 1 to population={POPULATION}"):
        evolve(score, sample=sample)


def test_impossible_number_of_evaluations_is_refused(score: QTScore) -> None:
    with pytest.raises(UserError, match=r"search_space\.evaluations=0"):
        evolve(score, evaluations=0)
