"""A predicted latency in its parts: they add up, nine of ten measure between its ends, and it tells where it extrapolates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from evolution.tables import write_folder

from spaceevo import latency
from spaceevo.latency.fit import fit
from spaceevo.latency.parts import by_kernel, by_stage, extrapolated, extrapolating, whole
from spaceevo.latency.predictor import Predictor
from spaceevo.latency.published import FITTED, fit_published
from spaceevo.latency.sampling import graph_of, sample_models
from spaceevo.latency.scores import nine_of_ten
from spaceevo.latency.table1 import compared, ends_interval, in_order
from spaceevo.report.latency_text import parts_text, table1_text
from spaceevo.space import Hyperspace, SearchSpace, Subnet, load_hyperspace, subnet_graph
from spaceevo.steps.search_subnet import _tell

SMALL = load_hyperspace("small")
PUBLISHED = {"pixel4": load_hyperspace("mobilew"), "intel_vnni": load_hyperspace("onnxw")}


def subnets(hs: Hyperspace, count: int, seed: int = 0) -> list[Subnet]:
    rng = np.random.default_rng(seed)
    return [Subnet.sample(SearchSpace.sample(hs, rng), rng) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    """Of a made-up profile of ``SMALL``."""
    rows = []
    for sample in sample_models(SMALL, 200, 40, np.random.default_rng(0)):
        graph = graph_of(sample.kind, sample.spec, SMALL)
        ms = 0.02 + sum(0.004 + 2e-7 * op.macs + 3e-8 * op.cout * op.out_hw**2 for op in graph.ops)
        rows.append(dict(name=sample.name, kind=sample.kind, spec=sample.spec, precision="int8", ms=ms))
    return fit(pd.DataFrame(rows), SMALL)


@pytest.mark.parametrize("device", ["fitted", *PUBLISHED])
def test_stages_and_kernels_add_up_to_the_whole(device: str, fitted: Predictor) -> None:
    predictor = fitted if device == "fitted" else latency.load(device)
    for net in subnets(PUBLISHED.get(device, SMALL), 5):
        stages, kernels = by_stage(predictor, net), by_kernel(predictor, net)
        for parts in (stages, kernels):
            assert sum(part.ms for part in parts) == pytest.approx(predictor.subnet_ms(net))
            assert len({part.name for part in parts}) == len(parts)
        named = [stage.name for stage in net.space.all_stages]
        assert [part.name for part in stages if part.name != "call"] == ["stem", *named, "head"]
        assert (stages[0].name == kernels[0].name == "call") == (device == "fitted")
        ms = dict(zip((op.name for op in subnet_graph(net).ops), predictor.net_ops_ms(net), strict=True))
        first = next(part for part in stages if part.name == "stage1")
        assert first.ms == pytest.approx(sum(t for name, t in ms.items() if name.startswith("stage1.")))


@pytest.mark.parametrize("device", PUBLISHED)
def test_what_no_published_table_has_is_less_sure_than_what_one_has(device: str) -> None:
    predictor = latency.load(device)
    for net in subnets(PUBLISHED[device], 5):
        parts = by_stage(predictor, net)
        assert [part.name for part in parts if part.estimated] == ["stem", "stage0", "head"]
        total, wide = whole(predictor, net), {}
        for part in parts:
            assert part.low_ms is not None and part.high_ms is not None and part.low_ms <= part.ms <= part.high_ms
            wide[part.name] = (part.high_ms - part.low_ms) / part.ms
        assert (
            max(wide[stage.name] for stage in net.space.stages) < 0.05 < min(wide[name] for name in ("stem", "stage0", "head"))
        )
        assert total.low_ms == pytest.approx(sum(part.low_ms or 0.0 for part in parts))
        assert total.high_ms == pytest.approx(sum(part.high_ms or 0.0 for part in parts))
        assert extrapolated(predictor, net) == []


@pytest.mark.parametrize(("device", "hyperspace"), [(device, hs.name) for device, hs in PUBLISHED.items()])
def test_table_1_is_predicted_in_its_order_and_within_the_uncertainty_that_it_told(device: str, hyperspace: str) -> None:
    predictor = latency.load(device)
    models = compared(predictor, hyperspace)
    assert len(models) == 3 and in_order(models) and not in_order([replace(m, ms=-m.ms) for m in models])
    assert all(model.predicted.holds(model.ms) for model in models)
    assert predictor.ends_interval == pytest.approx(ends_interval(predictor, hyperspace))
    told = table1_text(models, device)
    for model in models:
        row = next(line for line in told.splitlines() if line.startswith(model.name))
        assert f" {model.ms:g} " in row and f"{model.predicted.low_ms:.3g} to {model.predicted.high_ms:.3g}" in row
        assert row.endswith("another model") == model.other
    assert told.endswith("predicted in the order that Table 1 has them")
    assert ends_interval(predictor, "demo") is None


@pytest.mark.slow
def test_a_fit_to_published_tables_tells_how_sure_their_blocks_are(tmp_path: Path) -> None:
    hs = replace(load_hyperspace("tiny"), device="phone")
    predictor, scores = fit_published(write_folder(tmp_path / "lut", rows=12), hs, seed=0)
    assert predictor.blocks_interval is not None and predictor.ends_interval is None  # Table 1 has no model of that hyperspace
    low, high = predictor.blocks_interval
    assert low < 1 < high and scores["n"] > 20
    net = subnets(hs, 1)[0]
    parts = {part.name: part for part in by_stage(predictor, net)}
    assert parts["stage1"].low_ms == pytest.approx(low * parts["stage1"].ms) and parts["head"].low_ms is None
    assert whole(predictor, net).low_ms is None  # of what is nowhere near known


@pytest.mark.parametrize("device", PUBLISHED)
def test_shipped_intervals_of_blocks_hold_what_their_scores_say(device: str) -> None:
    told = json.loads((FITTED / f"{device}.json").read_text())
    assert told["blocks_interval"] == [0.99, 1.01] and told["scores"]["within_1pct"] >= 90


def test_within_what_was_profiled_nothing_is_told(fitted: Predictor) -> None:
    told = [extrapolating(fitted, net) for net in subnets(SMALL, 100, seed=7)]
    assert sum(place is not None for place in told) <= 5  # of a profile of samples some are at an edge


def test_wider_larger_and_unknown_is_told(fitted: Predictor) -> None:
    space = SearchSpace.sample(SMALL, np.random.default_rng(1))
    largest = Subnet.largest(space)
    wide = replace(SMALL, stages=tuple(replace(s, widths=tuple(8 * w for w in s.widths)) for s in SMALL.stages))
    wider = Subnet.largest(SearchSpace(wide, space.types, space.windows))
    told = extrapolated(fitted, wider)
    assert told and any("channels out" in place for place in told) and not any("pixels" in place for place in told)
    width = max(op.cout for op in subnet_graph(wider).ops)
    assert any(f" {width} channels" in place for place in told)
    told = extrapolated(fitted, replace(largest, resolution=10 * largest.resolution))
    assert told and all("pixels" in place for place in told)
    assert fitted.domain is not None
    less = replace(fitted, domain={kind: known for kind, known in fitted.domain.items() if kind != "pointwise"})
    assert "is a pointwise, of which none was measured" in (extrapolating(less, largest) or "")
    assert extrapolated(replace(fitted, domain=None), largest) is None
    assert "whether this extrapolates is not known" in parts_text(replace(fitted, domain=None), largest, "host")


def test_a_block_that_is_in_no_table_is_told_and_takes_the_interval_with_it() -> None:
    predictor, net = latency.load("pixel4"), subnets(PUBLISHED["pixel4"], 1)[0]
    larger = replace(net, resolution=512)
    assert (extrapolated(predictor, larger) or [""])[0] == "stage1.0 is no block of the tables"
    assert whole(predictor, larger).low_ms is None and whole(predictor, larger).holds(1.0) is None
    told = parts_text(predictor, larger, "pixel4")
    assert "how far such predictions are off is not known" in told and "this prediction extrapolates: stage1.0" in told


def test_the_search_tells_of_a_chosen_subnet_that_its_prediction_extrapolates(
    fitted: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    space = SearchSpace.sample(SMALL, np.random.default_rng(1))
    judge = cast(Any, SimpleNamespace(space=space))
    entry = dict(subnet=str(Subnet.largest(space)), limit_ms=0.5, predicted_ms=0.4, measured_ms=None, top1_val=50.0)
    _tell(judge, fitted, entry)
    assert "extrapolates" not in capsys.readouterr().out
    assert fitted.domain is not None
    narrow = {kind: known | {"channels in": (1, 4)} for kind, known in fitted.domain.items()}
    _tell(judge, replace(fitted, domain=narrow), entry)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("search_subnet: 0.5 ms: the predicted latency extrapolates: ") and "(1 to 4 measured)" in said


def test_what_a_predictor_knows_of_itself_is_kept_in_its_file(fitted: Predictor, tmp_path: Path) -> None:
    known = replace(fitted, interval=(0.9, 1.2), blocks_interval=(0.99, 1.01), ends_interval=(0.5, 1.5))
    known.save(tmp_path / "predictor.json")
    loaded = Predictor.load(tmp_path / "predictor.json")
    assert loaded.domain == known.domain and loaded.interval == known.interval
    assert (loaded.blocks_interval, loaded.ends_interval) == (known.blocks_interval, known.ends_interval)
    assert loaded.moved(2.0, 0.1).domain == known.domain and loaded.moved(2.0, 0.1).interval is None


@pytest.mark.parametrize("count", [6, 10, 18, 19, 40, 120])
def test_nine_of_ten_of_what_follows_lie_within_however_few_were_seen(count: int) -> None:
    rng = np.random.default_rng(count)
    shares = []
    for _ in range(300):
        low, high = nine_of_ten(np.exp(0.1 * rng.standard_normal(count)))
        follow = np.exp(0.1 * rng.standard_normal(200))
        shares.append(((low <= follow) & (follow <= high)).mean())
    assert 0.85 <= np.mean(shares) <= 0.95
