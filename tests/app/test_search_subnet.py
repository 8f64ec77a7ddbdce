"""``python -m spaceevo.search_subnet``: what models are called, and limits that nothing measures within."""

from __future__ import annotations

import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

from spaceevo.app.config import compose, hyperspace
from spaceevo.errors import LimitError
from spaceevo.search_subnet import MEASURED_HEADROOM, _within, model_names
from spaceevo.space import SearchSpace, Subnet


def test_models_are_called_by_limits_of_three_decimals() -> None:
    assert model_names("host", [0.03, 0.0601]) == ["host-0.030ms", "host-0.060ms"]


@given(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=8))
def test_other_limits_give_other_names(limits: list[float]) -> None:
    assert len(set(model_names("host", limits))) == len(set(limits))


def test_a_limit_that_nothing_measures_within_says_what_can_be_kept() -> None:
    cfg = compose("search_subnet", TINY)
    space = SearchSpace.parse("tiny-0000-0000", hyperspace(cfg))
    with pytest.raises(LimitError, match=r"latency\.limits_ms=1e-06: none of the 1 subnets predicted") as error:
        _within(cfg, 1e-6, [Subnet.smallest(space)], 1, lambda subnets: [0.0] * len(subnets))
    assert error.value.smallest_ms > 1e-6 / MEASURED_HEADROOM
