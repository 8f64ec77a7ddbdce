"""``python -m spaceevo.search_subnet``: what models are called, and limits that nothing measures within."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

from spaceevo.app.config import compose
from spaceevo.errors import LimitError
from spaceevo.evolution import GeneCode
from spaceevo.latency.limits import limits_at
from spaceevo.space import SearchSpace, Subnet
from spaceevo.steps.finalists import MEASURED_HEADROOM, within
from spaceevo.steps.judges import Judge
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.search_subnet import model_names


def test_models_are_called_by_limits_of_three_decimals() -> None:
    assert model_names("host", [0.03, 0.0601]) == ["host-0.030ms", "host-0.060ms"]


@given(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=8))
def test_other_limits_give_other_names(limits: list[float]) -> None:
    assert len(set(model_names("host", limits))) == len(set(limits))


def test_quantiles_that_print_alike_are_one_limit() -> None:
    limits = limits_at([0.5, 0.1, 0.500001], [1.0, 1.00001, 2.0, 3.0])
    assert limits == sorted(set(limits)) and len(limits) == 2
    assert len(set(model_names("host", limits))) == 2


def test_a_limit_that_nothing_measures_within_says_what_can_be_kept() -> None:
    cfg = compose("search_subnet", TINY)
    space = SearchSpace.parse("tiny-0000-0000", hyperspace(cfg))
    code = GeneCode(space)

    def zero(subnets: Sequence[object]) -> list[float]:
        return [0.0] * len(subnets)

    judge = Judge(space, code, zero, zero, zero, lambda _: {}, "loss_search", "top1_val", 1, 10.0, "chance")
    with pytest.raises(LimitError, match=r"latency\.limits_ms=1e-06: none of the 1 subnets predicted") as error:
        within(cfg, 1e-6, [Subnet.smallest(space)], 1, judge)
    assert error.value.smallest_ms > 1e-6 / MEASURED_HEADROOM


def test_of_the_finalists_within_a_limit_the_one_of_the_least_loss_is_chosen() -> None:
    cfg = compose("search_subnet", [*TINY, "device=pixel4"])  # nothing is measured
    space = SearchSpace.parse("tiny-0000-0000", hyperspace(cfg))
    subnets = list({Subnet.sample(space, np.random.default_rng(seed)): None for seed in range(30)})[:4]
    loss = dict(zip(subnets, (0.3, 0.2, 0.25, 0.1), strict=True))

    def final(few: list[Subnet]) -> list[float]:
        return [-loss[subnet] for subnet in few]

    judge = Judge(space, GeneCode(space), final, final, final, lambda _: {}, "loss_search", "top1_val", 1, 10.0, "chance")
    assert within(cfg, 1.0, subnets, 3, judge) == (subnets[1], None)  # the last is no finalist
