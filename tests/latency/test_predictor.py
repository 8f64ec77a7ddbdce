"""The latency predictor: what it recovers, keeps and adds up, and the limits made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.errors import UserError
from spaceevo.latency.fit import fit, held_out_scores, interval_of
from spaceevo.latency.limits import resolve_limits
from spaceevo.latency.predictor import Predictor
from spaceevo.latency.sampling import graph_of, sample_models
from spaceevo.space import Graph, SearchSpace, Subnet, load_hyperspace, subnet_graph

HS = load_hyperspace("small")
ROUGH = 0.05


def true_ms(graph: Graph, precision: str) -> float:
    """A made-up device: a call, and per op a start, its multiply-adds and the elements that it writes."""
    total = 0.02 if precision == "int8" else 0.03
    for op in graph.ops:
        per_mac = {"conv": 2e-7, "depthwise": 9e-7}.get(op.kind, 0.0) * (1 if precision == "int8" else 2.5)
        total += 0.004 + per_mac * op.macs + 3e-8 * op.cout * op.out_hw**2
    return total


def measured(blocks: int, subnets: int, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """What a profile of the made-up device looks like."""
    rng = np.random.default_rng(seed)
    rows = []
    for sample in sample_models(HS, blocks, subnets, rng):
        graph = graph_of(sample.kind, sample.spec, HS)
        for precision in ("int8", "fp32"):
            ms = true_ms(graph, precision) * (1 + noise * rng.standard_normal())
            rows.append(dict(name=sample.name, kind=sample.kind, spec=sample.spec, precision=precision, ms=ms))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return measured(240, 60)


@pytest.fixture(scope="module")
def predictor(frame: pd.DataFrame) -> Predictor:
    return fit(frame, HS)


def unseen(count: int) -> list[Graph]:
    rng = np.random.default_rng(99)
    return [subnet_graph(Subnet.sample(SearchSpace.sample(HS, rng), rng)) for _ in range(count)]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_additive_latency_is_recovered(predictor: Predictor, precision: str) -> None:
    for graph in unseen(40):
        assert predictor.graph_ms(graph, precision) == pytest.approx(true_ms(graph, precision), rel=1e-3)


def test_noise_of_the_measurement_averages_out() -> None:
    noisy = fit(measured(240, 60, noise=ROUGH), HS)
    errors = [abs(noisy.graph_ms(graph) / true_ms(graph, "int8") - 1) for graph in unseen(40)]
    assert np.mean(errors) < ROUGH / 2


def test_no_op_costs_less_than_nothing(predictor: Predictor) -> None:
    values = [value for known in predictor.coefficients.values() for value in known.values()]
    assert set(predictor.coefficients) == {"int8", "fp32"} and min(values) >= 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_larger_ops_never_cost_less(predictor: Predictor, seed: int) -> None:
    space = SearchSpace.sample(HS, np.random.default_rng(seed))
    sampled = Subnet.sample(space, np.random.default_rng(seed))
    small, large = (subnet_graph(net(space)) for net in (Subnet.smallest, Subnet.largest))
    biggest = {op.name: ms for op, ms in zip(large.ops, predictor.ops_ms(large), strict=True)}
    for graph in (small, subnet_graph(sampled)):
        for op, ms in zip(graph.ops, predictor.ops_ms(graph), strict=True):
            kernel = next((o.kernel for o in large.ops if o.name == op.name), None)
            if kernel == op.kernel:  # another kernel is another kind of op
                assert 0 <= ms <= biggest[op.name] + 1e-12


def test_saved_predictor_predicts_the_same(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "predictor.json")
    loaded = Predictor.load(tmp_path / "predictor.json")
    for graph in unseen(5):
        assert loaded.graph_ms(graph) == predictor.graph_ms(graph)
        assert loaded.ops_ms(graph, "fp32") == predictor.ops_ms(graph, "fp32")
    assert json.loads((tmp_path / "predictor.json").read_text())["unit"] == "ms"


@pytest.mark.parametrize("content", ["", "{", '{"unit": "ms"}', "\x00\x01"])
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictor.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"predictor\.json: not a latency predictor"):
        Predictor.load(path)
    with pytest.raises(UserError, match=r"absent\.json: not a latency predictor"):
        Predictor.load(tmp_path / "absent.json")


@pytest.mark.parametrize("content", ["[]", "3", '{"coefficients": 3}', '{"coefficients": {}}'])
def test_json_of_something_else_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictor.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"predictor\.json: not a latency predictor"):
        Predictor.load(path)


def test_nine_of_ten_subnets_measure_within_the_interval(tmp_path: Path) -> None:
    noisy = fit(measured(240, 80, noise=ROUGH), HS)
    noisy.interval = interval_of(measured(240, 80, noise=ROUGH), HS, seed=0)
    low, high = noisy.interval
    assert 1 - 3 * ROUGH < low < 1 - ROUGH and 1 + ROUGH < high < 1 + 3 * ROUGH
    rng = np.random.default_rng(5)
    ratios = [true_ms(g, "int8") * (1 + ROUGH * rng.standard_normal()) / noisy.graph_ms(g) for g in unseen(300)]
    assert 0.8 < np.mean([low <= ratio <= high for ratio in ratios]) < 0.98
    noisy.save(tmp_path / "predictor.json")
    assert Predictor.load(tmp_path / "predictor.json").interval == noisy.interval


def test_held_out_scores_of_an_additive_device_are_perfect(frame: pd.DataFrame) -> None:
    scores = held_out_scores(frame, HS, 0.2, seed=0)
    assert scores["n"] == 12  # a fifth of 60 subnets, INT8 only
    assert scores["within_5pct"] == scores["within_10pct"] == 100
    assert scores["median_error_pct"] < 0.5 and scores["above_q95"] == pytest.approx(1, abs=0.01)


def test_held_out_scores_see_only_what_the_fit_did_not(frame: pd.DataFrame) -> None:
    slow = frame.copy()
    names = slow[slow.kind == "subnet"].name.unique()
    held = set(np.random.default_rng(3).permutation(names)[:12])
    slow.loc[slow.name.isin(held), "ms"] *= 2  # the very subnets that seed 3 holds out
    scores = held_out_scores(slow, HS, 0.2, seed=3)
    assert scores["within_10pct"] == 0
    assert scores["median_error_pct"] == pytest.approx(50, abs=1) and scores["above_q95"] == pytest.approx(2, abs=0.05)


# Limits


@dataclass
class Latency:
    limits_ms: list[float] | None = None
    quantiles: list[float] | None = None


def test_explicit_limits_are_kept_as_they_are(predictor: Predictor) -> None:
    limits = resolve_limits(Latency([3, 1.5, 0.00001], [0.5]), predictor, HS, seed=0)
    assert limits == [3.0, 1.5, 0.00001] and all(isinstance(limit, float) for limit in limits)


def test_quantiles_rise_within_the_range_of_subnets(predictor: Predictor) -> None:
    limits = resolve_limits(Latency(quantiles=[0.9, 0.1, 0.5]), predictor, HS, seed=0)
    ms = [predictor.graph_ms(graph) for graph in unseen(300)]
    assert limits == sorted(limits) and len(set(limits)) == 3
    shares = [np.mean([m <= limit for m in ms]) for limit in limits]
    assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.1)
    assert limits == resolve_limits(Latency(quantiles=[0.1, 0.5, 0.9]), predictor, HS, seed=0)
    assert limits != resolve_limits(Latency(quantiles=[0.1, 0.5, 0.9]), predictor, HS, seed=1)
