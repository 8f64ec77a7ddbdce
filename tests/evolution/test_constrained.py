"""Constrained evolution over the subnets of one space, and the Pareto front."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.errors import UserError
from spaceevo.evolution import Evaluated, constrained_evolution, pareto_front
from spaceevo.space import BlockConfig, ElasticStage, SearchSpace, Stage, Subnet

SPACE = SearchSpace.parse("tiny-2222-0000")


@functools.cache
def mmacs(net: Subnet) -> float:
    return net.cost().mmacs


def worth(net: Subnet) -> float:
    """A made-up additive quality: every choice of every block has a worth of its own, and so has the resolution."""
    blocks = [(stage, i, b.width, b.expand) for stage, sub in enumerate(net.stages) for i, b in enumerate(sub)]
    return sum(((7 * s + 5 * i + 3 * w + 11 * e) * 2654435761 % 97) / 97 for s, i, w, e in blocks) + net.resolution / 16


def search(limit: float, seed: int = 0, **changes: object) -> list[Evaluated]:
    settings: dict = dict(population=50, parents=15, generations=10, mutate_probability=0.1) | changes
    quality = settings.pop("quality", lambda nets: [worth(net) for net in nets])
    return constrained_evolution(SPACE, mmacs, limit, quality, seed=seed, **settings)


def every_subnet() -> list[Subnet]:
    def sub_stages(stage: ElasticStage) -> list[Stage]:
        block = [BlockConfig(*c) for c in itertools.product(stage.block.kernels, stage.widths, stage.block.expands)]
        return [sub for depth in stage.depths for sub in itertools.product(block, repeat=depth)]

    hs = SPACE.hyperspace
    parts = (hs.stem.widths, itertools.product(*map(sub_stages, SPACE.stages)), hs.resolutions)
    return [Subnet(SPACE, stem, stages, resolution) for stem, stages, resolution in itertools.product(*parts)]


def test_search_finds_the_optimum_of_every_limit() -> None:
    every = every_subnet()
    assert len(every) == SPACE.subnets
    costs = {net: mmacs(net) for net in every}
    for limit in np.quantile(list(costs.values()), (0.4, 0.8)):
        best = max(worth(net) for net in every if costs[net] <= limit)
        found = [search(float(limit), seed) for seed in range(2)]
        assert max(e.quality for one in found for e in one) == pytest.approx(best)
        assert all(len(one) <= 550 < SPACE.subnets / 4 for one in found)


@pytest.mark.parametrize("quantile", [0.0, 0.02, 0.5, 1.0])
def test_everything_found_is_within_the_limit_and_evaluated_once(quantile: float) -> None:
    low, high = mmacs(Subnet.smallest(SPACE)), mmacs(Subnet.largest(SPACE))
    limit = low + quantile * (high - low)
    asked: list[list[Subnet]] = []

    def quality(nets: list[Subnet]) -> list[float]:
        asked.append(nets)
        return [worth(net) for net in nets]

    found = search(limit, quality=quality, population=20, generations=4)
    nets = [net for generation in asked for net in generation]
    assert [e.subnet for e in found] == nets and len(set(nets)) == len(nets) >= 1
    for e in found:
        assert e.cost == mmacs(e.subnet) <= limit and e.quality == worth(e.subnet)
    generations = [e.generation for e in found]
    assert generations == sorted(generations) and set(generations) <= set(range(5))
    counts = [generations.count(g) for g in range(5)]
    assert max(counts) <= 20 and (quantile < 0.5 or counts == [20] * 5)
    assert all(len(generation) > 0 for generation in asked)


def test_same_seed_same_search() -> None:
    assert search(0.3, seed=5, generations=2) == search(0.3, seed=5, generations=2)
    assert search(0.3, seed=5, generations=2) != search(0.3, seed=6, generations=2)


def test_children_are_better_than_random_subnets() -> None:
    found = search(0.3)
    first, last = ([e.quality for e in found if e.generation == g] for g in (0, 10))
    assert np.mean(last) > np.mean(first) + np.std(first)


def test_seeds_join_the_first_generation_where_they_meet_the_limit() -> None:
    rng = np.random.default_rng(0)
    sampled = [Subnet.sample(SPACE, rng) for _ in range(30)]
    limit = float(np.median([mmacs(net) for net in sampled]))
    found = search(limit, seeds=sampled, generations=1)
    first = {e.subnet for e in found if e.generation == 0}
    assert {net for net in sampled if mmacs(net) <= limit} <= first
    assert len(first) == 50 and all(e.cost <= limit for e in found)


def test_limit_below_the_smallest_subnet_names_it() -> None:
    smallest = mmacs(Subnet.smallest(SPACE))
    with pytest.raises(UserError) as error:
        search(0.9 * smallest)
    assert f"{0.9 * smallest:g}: below the" in str(error.value) and str(SPACE) in str(error.value)
    assert f"the smallest reachable is {smallest:.4g}" in str(error.value)
    assert search(smallest, population=5, generations=1)  # it can be reached


COORDINATES = st.integers(0, 6)  # few, so that points often tie


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), max_size=12))
def test_pareto_front_is_what_no_other_point_dominates(points: list[tuple[int, int]]) -> None:
    costs, qualities = [c for c, _ in points], [q for _, q in points]
    front = pareto_front(costs, qualities)
    undominated = {(c, q) for c, q in points if not any(c2 <= c and q2 >= q and (c2, q2) != (c, q) for c2, q2 in points)}
    assert [points[i] for i in front] == sorted(undominated)
