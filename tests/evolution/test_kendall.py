"""Kendall's tau with its interval: against scipy, at its ends, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from spaceevo.evolution.kendall import kendall

FEW = st.integers(0, 5).map(float)  # so that many are tied
PAIRS = st.integers(2, 30).flatmap(lambda n: st.tuples(*[st.lists(FEW, min_size=n, max_size=n)] * 2))
DIFFERENT = st.lists(st.integers(-1000, 1000), min_size=3, max_size=40, unique=True)


def arrays(*values: list) -> list[np.ndarray]:
    return [np.array(some, float) for some in values]


@given(PAIRS)
def test_it_is_scipy_s_tau_b_ties_and_all_and_its_interval_holds_it(pair: tuple[list[float], list[float]]) -> None:
    one, other = arrays(*pair)
    found = kendall(one, other, 50, 0)
    assert found.count == len(one)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert (found.tau, found.low, found.high) == (None, None, None)
        return
    assert found.tau == pytest.approx(kendalltau(one, other).statistic, abs=1e-12)
    assert found.low is not None and found.high is not None and found.tau is not None
    assert -1 <= found.low <= found.tau <= found.high <= 1


@given(DIFFERENT)
def test_the_same_order_gives_one_and_the_reversed_minus_one_whatever_was_drawn(values: list[int]) -> None:
    (one,) = arrays(values)
    for sign in (1, -1):
        found = kendall(one, sign * one**3, 100, 1)
        assert found.tau == found.low == found.high == sign


@given(PAIRS, st.integers(0, 9))
def test_it_does_not_matter_which_measure_is_first_and_a_seed_gives_one_interval(
    pair: tuple[list[float], list[float]], seed: int
) -> None:
    one, other = arrays(*pair)
    assert kendall(one, other, 40, seed) == kendall(other, one, 40, seed) == kendall(one, other, 40, seed)


def test_the_interval_is_that_of_scipy_s_tau_over_resamples() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=40)
    other = one + rng.normal(size=40)
    found = kendall(one, other, 4000, 0)
    draws = rng.integers(40, size=(4000, 40))
    taus = [kendalltau(one[drawn], other[drawn]).statistic for drawn in draws]
    assert [found.low, found.high] == pytest.approx(np.quantile(taus, [0.025, 0.975]), abs=0.03)


def test_more_things_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=400)
    other = one + rng.normal(size=400)
    few, many = kendall(one[:40], other[:40], 500, 0), kendall(one, other, 500, 0)
    assert few.high is not None and few.low is not None and many.high is not None and many.low is not None
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_nothing_has_no_tau() -> None:
    assert kendall(np.zeros(0), np.zeros(0), 10, 0).tau is None
