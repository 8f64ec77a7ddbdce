"""Constrained evolution over the subnets of one space, all limits at once: genes, costs, archive, Pareto front."""

from __future__ import annotations

import functools
import itertools
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from spaceevo.errors import LimitError, UserError
from spaceevo.evolution import AdditiveCost, Archive, GeneCode, constrained_evolution, hypervolume, pareto_front
from spaceevo.evolution.additive import of_ops
from spaceevo.evolution.nsr_sums import NsrSums
from spaceevo.evolution.quality_fit import QualityFit, guessed_by_the_others
from spaceevo.space import (
    BlockConfig,
    ElasticStage,
    Graph,
    Hyperspace,
    Op,
    SearchSpace,
    Stage,
    Subnet,
    any_space,
    load_hyperspace,
    subnet_graph,
)

SPACE = SearchSpace.parse("tiny-2222-0000")
CODE = GeneCode(SPACE)
#: A space each of: small, all block types, a stage 0 and a feature mix, hand-designed with one width a stage.
SPACES = ("tiny-0212-0122", "small-5312-1020", "onnxw-151122-023231", "mobilew-122222-155400")


def op_mmacs(op: Op) -> float:
    return op.macs / 1e6


MMACS = AdditiveCost(CODE, lambda net: net.cost().mmacs, of_ops(op_mmacs))


@functools.cache
def mmacs(net: Subnet) -> float:
    return net.cost().mmacs


def worth(net: Subnet) -> float:
    """A made-up additive quality: every choice of every block has a worth of its own, and so has the resolution."""
    blocks = [(stage, i, b.width, b.expand) for stage, sub in enumerate(net.stages) for i, b in enumerate(sub)]
    return sum(((7 * s + 5 * i + 3 * w + 11 * e) * 2654435761 % 97) / 97 for s, i, w, e in blocks) + net.resolution / 16


def worths(genes: np.ndarray) -> list[float]:
    return [worth(net) for net in CODE.decode(genes)]


def search(*limits: float, seed: int = 0, **changes: object) -> Archive:
    settings: dict = (
        dict(cheapest=MMACS.cheapest(), population=50, parents=15, generations=10, mutate_probability=0.1, quality=worths)
        | changes
    )
    quality = settings.pop("quality")
    return constrained_evolution(CODE, MMACS, limits, quality, seed=seed, **settings)


def every_subnet(space: SearchSpace = SPACE) -> list[Subnet]:
    def sub_stages(stage: ElasticStage) -> list[Stage]:
        block = [BlockConfig(*c) for c in itertools.product(stage.block.kernels, stage.widths, stage.block.expands)]
        return [sub for depth in stage.depths for sub in itertools.product(block, repeat=depth)]

    hs = space.hyperspace
    parts = (hs.stem.widths, itertools.product(*map(sub_stages, space.stages)), hs.resolutions)
    return [Subnet(space, stem, stages, resolution) for stem, stages, resolution in itertools.product(*parts)]


@pytest.mark.parametrize("name", SPACES)
def test_genes_are_the_subnets(name: str) -> None:
    code, rng = GeneCode(SearchSpace.parse(name)), np.random.default_rng(0)
    drawn = code.sample(100, rng)
    for genes in (drawn, code.mutate(drawn, 0.3, rng), code.crossover(drawn, drawn[::-1], rng)):
        nets = code.decode(genes)
        assert [Subnet.parse(code.space, str(net)) for net in nets] == nets  # every one is of the space
        np.testing.assert_array_equal(code.encode(nets), genes)
        assert len({row.tobytes() for row in genes}) == len(set(nets))


def test_every_subnet_is_drawn_and_every_choice_alike() -> None:
    genes = CODE.sample(100_000, np.random.default_rng(0))
    assert len(np.unique(genes, axis=0)) == SPACE.subnets
    for here in CODE.stages:
        share = np.bincount(here.depths(genes))[list(here.stage.depths)] / len(genes)
        np.testing.assert_allclose(share, 1 / len(here.stage.depths), atol=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 1.0]))
def test_mutation_changes_the_share_of_choices_it_should(seed: int, probability: float) -> None:
    rng = np.random.default_rng(seed)
    genes = np.repeat(CODE.sample(1, rng), 2000, 0)
    changed = (CODE.mutate(genes, probability, rng) != genes)[:, 0].mean()  # the resolution: 2 choices
    assert changed == pytest.approx(probability / 2, abs=0.05)
    assert probability or not (CODE.mutate(genes, 0.0, rng) != genes).any()


def test_crossover_takes_whole_stages_of_either_parent() -> None:
    rng = np.random.default_rng(0)
    one, other = CODE.sample(300, rng), CODE.sample(300, rng)
    for a, b, child in zip(*map(CODE.decode, (one, other, CODE.crossover(one, other, rng))), strict=True):
        assert all(stage in pair for stage, *pair in zip(child.stages, a.stages, b.stages, strict=True))
        assert child.resolution in (a.resolution, b.resolution)


@pytest.mark.parametrize("name", SPACES)
def test_cost_from_tables_is_the_cost_of_the_graph(name: str) -> None:
    code, rng = GeneCode(SearchSpace.parse(name)), np.random.default_rng(0)

    def op(o: Op) -> float:
        return o.macs / 1e6 + 1e-3 * o.cin + 1e-4 * o.out_hw * o.stride

    def whole(graph: Graph) -> float:
        return 0.5 + 1e-3 * graph.input.hw + sum(map(op, graph.ops))

    genes = code.sample(50, rng)
    costs = AdditiveCost(code, lambda net: whole(subnet_graph(net)), of_ops(op))(genes)
    np.testing.assert_allclose(costs, [whole(subnet_graph(net)) for net in code.decode(genes)], rtol=1e-12)


def test_search_finds_the_optimum_of_every_limit() -> None:
    every = every_subnet()
    assert len(every) == SPACE.subnets
    costs = {net: mmacs(net) for net in every}
    limits = [float(q) for q in np.quantile(list(costs.values()), (0.4, 0.8))]
    for seed in range(2):
        found = search(*limits, seed=seed)
        assert len(found) <= 1100 < SPACE.subnets / 2
        for limit in limits:
            best = max(worth(net) for net in every if costs[net] <= limit)
            assert found.quality[found.ranked(limit)[0]] == pytest.approx(best)


@pytest.mark.parametrize("quantile", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("how", ["fitted", "evolution", "random"])
def test_everything_found_is_within_its_limit_and_evaluated_once(quantile: float, how: str) -> None:
    low, high = mmacs(Subnet.smallest(SPACE)), mmacs(Subnet.largest(SPACE))
    limits = [low + quantile * (high - low), high]
    asked: list[np.ndarray] = []

    def quality(genes: np.ndarray) -> list[float]:
        asked.append(genes)
        return worths(genes)

    found = search(*limits, quality=quality, population=20, generations=4, search=how)
    nets = found.subnets(range(len(found)))
    assert nets == CODE.decode(np.concatenate(asked)) and len(set(nets)) == len(nets)
    for net, cost, value, limit in zip(nets, found.cost, found.quality, found.limit, strict=True):
        assert cost == pytest.approx(mmacs(net)) and cost <= limits[limit] and value == worth(net)
    assert (np.diff(5 * found.limit + found.generation) >= 0).all()
    first, second = ([((found.generation == g) & (found.limit == limit)).sum() for g in range(5)] for limit in (0, 1))
    assert max(first) <= 20 and first[0] >= 1 and (quantile < 0.5 or first == [20] * 5)
    assert second[1:] == [20] * 4 and second[0] == max(0, 20 - sum(first))  # begins with what the smaller limit found


def test_a_subnet_counts_for_every_limit_it_keeps() -> None:
    found = search(0.2, 0.3, 0.4, generations=3)
    for limit in (0.2, 0.3, 0.4):
        rows = found.ranked(limit)
        assert sorted(rows) == list(np.flatnonzero(found.cost <= limit))
        assert (np.diff(found.quality[rows]) <= 0).all()
    best = [found.quality[found.ranked(limit)[0]] for limit in (0.2, 0.3, 0.4)]
    assert best == sorted(best)


def test_same_seed_same_search() -> None:
    one, again, other = (search(0.3, seed=seed, generations=2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.genes, again.genes)
    np.testing.assert_array_equal(one.quality, again.quality)
    assert one.genes.shape != other.genes.shape or (one.genes != other.genes).any()


def test_evolution_beats_random_search_of_as_many_subnets() -> None:
    rules = [
        hypervolume(found.cost, found.quality, (0.5, 0.0))
        for how in ("evolution", "random")
        for found in [search(0.2, 0.3, 0.5, search=how, population=20, parents=6, seed=seed) for seed in range(3)]
    ]
    assert min(rules[:3]) > max(rules[3:])


def trained(net: Subnet) -> float:
    """A made-up quality as a supernet's is: blocks and widths are worth the more, the fewer and narrower the others are, all
    blurred by chance."""
    gains = [1 + np.log(block.width) for stage in net.stages for block in stage]
    return float(np.log(sum(gains)) + 0.2 * np.log(net.resolution) + 0.01 * (crc32(str(net).encode()) % 97) / 97)


def trainings(genes: np.ndarray) -> list[float]:
    return [trained(net) for net in CODE.decode(genes)]


def test_a_fit_that_chooses_the_children_comes_closer_to_the_best() -> None:
    limits, every = (0.2, 0.3, 0.5), every_subnet()
    best = [max(trained(net) for net in every if mmacs(net) <= limit) for limit in limits]

    def short_by(how: str, seed: int) -> float:
        """Of the best within each limit, on average."""
        found = search(*limits, quality=trainings, population=12, parents=4, generations=2, search=how, seed=seed)
        return float(np.mean([most - found.quality[found.ranked(limit)[0]] for limit, most in zip(limits, best, strict=True)]))

    fitted, plain = (np.mean([short_by(how, seed) for seed in range(6)]) for how in ("fitted", "evolution"))
    assert fitted < plain / 3


def test_a_fit_guesses_what_the_others_tell_and_nothing_of_chance() -> None:
    genes = CODE.sample(60, np.random.default_rng(0))
    quality = np.array(trainings(genes))
    assert kendalltau(guessed_by_the_others(CODE, genes, quality, 0), quality).statistic > 0.7
    others = CODE.sample(200, np.random.default_rng(1))
    assert kendalltau(QualityFit(CODE, genes, quality)(others), trainings(others)).statistic > 0.7
    chance = np.random.default_rng(2).normal(size=60)
    assert kendalltau(guessed_by_the_others(CODE, genes, chance, 0), chance).statistic < 0.3


def test_seeds_join_the_first_generation_where_they_meet_the_limit() -> None:
    rng = np.random.default_rng(0)
    sampled = [Subnet.sample(SPACE, rng) for _ in range(30)]
    limit = float(np.median([mmacs(net) for net in sampled]))
    found = search(limit, seeds=sampled, generations=1)
    first = found.subnets(np.flatnonzero(found.generation == 0))
    assert {net for net in sampled if mmacs(net) <= limit} <= set(first)
    assert len(first) == 50 and (found.cost <= limit).all()


def bare_of_expanding() -> SearchSpace:
    """Two stages of mbv2, which at an expand ratio of 1, not its least, has no expanding convolution."""
    block = {"type": "mbv2", "kernels": [3], "expands": [0.5, 1.0], "act": "relu"}
    stage = {"widths": [8, 16], "window": 2, "depths": [1, 2], "stride": 2}
    hs = {**load_hyperspace("tiny").to_dict(), "name": "bare", "blocks": [block], "stages": [{**stage, "types": None}] * 2}
    return any_space(Hyperspace.from_dict(hs))


@pytest.mark.parametrize("space", [SPACE, bare_of_expanding()], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_subnet_is_the_cheapest_of_all(space: SearchSpace, seed: int) -> None:
    """Of any price of ops, also one by which the wider or the deeper is the cheaper."""
    rng = np.random.default_rng(seed)
    prices = {kind: rng.random(3) for kind in ("conv", "depthwise", "mean", "mul", "add")}

    def price(op: Op) -> float:
        return float(prices[op.kind] @ (1, op.macs / 1e5, 8 / op.cout))

    code = GeneCode(space)
    cost = AdditiveCost(code, lambda net: sum(map(price, subnet_graph(net).ops)), of_ops(price))
    every = every_subnet(space)
    assert len(every) == space.subnets
    costs = cost(code.encode(every))
    assert cost(cost.cheapest()) == pytest.approx(costs.min())
    assert np.isclose(sum(map(price, subnet_graph(code.decode(cost.cheapest())[0]).ops)), costs.min())


def test_a_limit_that_only_other_subnets_than_the_least_of_every_choice_keep_is_searched() -> None:
    space = bare_of_expanding()
    code = GeneCode(space)
    cost = AdditiveCost(code, lambda net: net.cost().mmacs, of_ops(op_mmacs))
    (cheapest,) = code.decode(cost.cheapest())
    smallest = min(mmacs(Subnet.smallest(space, r)) for r in space.hyperspace.resolutions)
    assert mmacs(cheapest) < smallest
    between = (mmacs(cheapest) + smallest) / 2
    how: dict = dict(population=5, parents=2, generations=1, mutate_probability=0.1, seed=0, cheapest=cost.cheapest())
    found = constrained_evolution(code, cost, [between], lambda genes: -cost(genes), **how)
    assert len(found) and (found.cost <= between).all()
    with pytest.raises(UserError, match=rf"the smallest reachable is {mmacs(cheapest):.4g} ms"):
        constrained_evolution(code, cost, [0.99 * mmacs(cheapest)], lambda genes: -cost(genes), **how)


def test_limit_below_the_smallest_subnet_names_it() -> None:
    smallest = mmacs(Subnet.smallest(SPACE))
    with pytest.raises(LimitError) as error:
        search(0.9 * smallest, 1.0)
    assert error.value.smallest_ms == pytest.approx(smallest)
    assert f"{0.9 * smallest:g}: below the" in str(error.value) and str(SPACE) in str(error.value)
    assert f"the smallest reachable is {smallest:.4g}" in str(error.value)
    assert len(search(smallest * (1 + 1e-9), population=5, generations=1))  # it can be reached


def test_unknown_search_names_the_known() -> None:
    with pytest.raises(UserError, match=r"search_subnet\.search=best: no such search; there are: fitted, evolution, random"):
        search(0.3, search="best")


def test_proxy_orders_substages_it_has_not_seen() -> None:
    """A made-up NSR that falls with width and depth, tabulated with noise, is predicted in order for whole subnets."""
    rng = np.random.default_rng(0)
    rows = []

    def loss(net: Subnet) -> float:
        return sum(np.mean([b.width for b in stage]) ** -0.5 / len(stage) ** 0.3 for stage in net.stages)

    for net in (Subnet.sample(SPACE, rng) for _ in range(60)):
        for i, stage in enumerate(net.stages):
            nsr = np.mean([b.width for b in stage]) ** -0.5 / len(stage) ** 0.3 * rng.lognormal(0, 0.02)
            config = "_".join(map(str, stage))
            rows.append(dict(stage=i + 1, type=2, cin=8, resolution=net.resolution, config=config, nsr=nsr))
    proxy = NsrSums(CODE, pd.DataFrame(rows))
    genes = CODE.sample(200, rng)
    true = [loss(net) for net in CODE.decode(genes)]
    assert np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(proxy(genes))))[0, 1] > 0.9
    with pytest.raises(UserError, match=r"no rows of stage 1 with block type 2"):
        NsrSums(CODE, pd.DataFrame(rows).query("stage > 1"))


COORDINATES = st.integers(0, 6)  # few, so that points often tie


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), max_size=12))
def test_pareto_front_is_what_no_other_point_dominates(points: list[tuple[int, int]]) -> None:
    costs, qualities = [c for c, _ in points], [q for _, q in points]
    front = pareto_front(costs, qualities)
    undominated = {(c, q) for c, q in points if not any(c2 <= c and q2 >= q and (c2, q2) != (c, q) for c2, q2 in points)}
    assert [points[i] for i in front] == sorted(undominated)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), max_size=8), st.tuples(COORDINATES, COORDINATES))
def test_hypervolume_is_the_count_of_unit_squares_that_are_beaten(points: list[tuple[int, int]], reference: tuple) -> None:
    squares = {
        (x, y)
        for c, q in points
        for x in range(c, reference[0])  # dearer than the point, cheaper than the reference
        for y in range(reference[1], q)
    }
    assert hypervolume([c for c, _ in points], [q for _, q in points], reference) == len(squares)
