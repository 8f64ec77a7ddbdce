"""What lies on an edge of what may be searched, and which limits bind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spaceevo.app.config import compose
from spaceevo.evolution import QTScore, Table, binding, space_edge, subnet_edge
from spaceevo.latency.limits import limits_of_table
from spaceevo.space import Hyperspace, SearchSpace, Subnet, load_hyperspace, random_stage

SPACE = SearchSpace.parse("tiny-2222-0112")
DEMO = load_hyperspace("small")


def test_a_space_is_on_the_edge_where_a_window_is_the_first_or_the_last() -> None:
    said = space_edge(SPACE)
    assert said is not None and "narrowest width window in stage 1 " in said and "widest width window in stage 4;" in said
    assert space_edge(SearchSpace.parse("tiny-2222-1111")) is None
    only = space_edge(SearchSpace.parse("tiny-0000-2212"))
    assert only is not None and "widest width window in stages 1, 2, 4" in only and "narrow" not in only


def test_a_stage_of_one_window_has_no_edge() -> None:
    assert space_edge(SearchSpace.parse("attentive_nas")) is None


@pytest.mark.parametrize(("ms", "unused"), [(0.95, None), (0.901, None), (0.899, "10 %"), (0.5, "50 %")])
def test_a_limit_with_latency_left_is_told(ms: float, unused: str | None) -> None:
    said = subnet_edge(Subnet.smallest(SPACE), 2.0, 2 * ms)
    assert said is None if unused is None else said is not None and f"leaves {unused} of the latency unused" in said


def test_the_largest_subnet_asks_for_a_larger_hyperspace() -> None:
    largest = subnet_edge(Subnet.largest(SPACE), 1.0, 0.95)
    assert largest is not None and "largest of its space" in largest and "larger hyperspace" in largest
    both = subnet_edge(Subnet.largest(SPACE), 1.0, 0.5)
    assert both is not None and "leaves 50 %" in both and "larger hyperspace" in both
    low = subnet_edge(Subnet.largest(SPACE, min(SPACE.hyperspace.resolutions)), 1.0, 0.95)
    assert low is None  # of a lower resolution


def larger_is_better(hs: Hyperspace, rows: int = 6) -> Table:
    """Latencies that grow with kernel, widths and resolution, and NSR that falls with them, down to what no size betters,
    with some luck."""
    rng = np.random.default_rng(0)
    ms, nsr = {}, {}
    for s, spec in enumerate(hs.stages):
        for t in spec.types:
            speed = rng.uniform(0.5, 2)
            for w in range(spec.windows):
                for r in hs.lut_resolutions:
                    blocks = [random_stage(hs.elastic(s, t, w), rng) for _ in range(rows)]
                    size = np.array([sum(b.width * b.kernel * (b.expand or 1) for b in some) for some in blocks]) * r**2
                    ms[s, t, w, r] = speed * size / 1e6
                    nsr[s, t, w, r] = 0.2 + 30 / np.sqrt(size) + rng.uniform(0, 0.05, rows)
    return Table(hs, hs.lut_resolutions, nsr, ms, dict.fromkeys(hs.lut_resolutions, 0.02))


def test_a_limit_binds_exactly_where_it_costs_something() -> None:
    table, rng = larger_is_better(DEMO), np.random.default_rng(1)
    spaces = [SearchSpace.sample(DEMO, rng) for _ in range(10)]
    slowest = max(sum(float(v.max()) for v in table.ms.values()), 1.0)
    for mode in ("exact", "sampled"):
        score = QTScore(table, [0.3, slowest, math.inf], 500, 5, mode=mode)
        told = binding(score, spaces)
        assert told.shape == (10, 2) and not told[:, 1].any()
        for space, (binds, _) in zip(spaces, told, strict=True):
            limited, free = QTScore(table, [0.3, math.inf], 500, 5, mode=mode).per_limit(space)
            assert binds == (free - limited > 1e-4 * abs(free))
        assert told[:, 0].any()


def test_every_limit_of_the_default_binds_for_most_spaces() -> None:
    table, rng = larger_is_better(DEMO), np.random.default_rng(1)
    limits = limits_of_table(compose("search_space").latency, table, 0)
    told = binding(QTScore(table, [*limits, math.inf], mode="exact"), [SearchSpace.sample(DEMO, rng) for _ in range(60)])
    assert len(limits) == 3 and (told.mean(0) > 0.5).all(), told.mean(0)
