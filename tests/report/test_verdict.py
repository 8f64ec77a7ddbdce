"""Who beats whom: against the definition, on any figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaceevo.report.verdict import at_limit, beats, verdict, verdict_sums, verdict_words

#: Few values, so that equal ones meet.
TOP1 = st.sampled_from([90.0, 91.0, 91.5, 92.0])
MS = st.sampled_from([0.01, 0.02, 0.025, 0.03])


@st.composite
def candidates(draw: st.DrawFn, kind: str) -> list[dict[str, Any]]:
    """Of one runtime, ``onnxruntime``."""
    figures = draw(st.lists(st.tuples(TOP1, MS, MS), min_size=1, max_size=5))
    return [
        dict(name=f"{kind}{i}", limit_ms=limit, top1={"onnxruntime": top1}, measured_ms={"onnxruntime": ms})
        for i, (top1, ms, limit) in enumerate(figures)
    ]


@given(candidates("net"), candidates("model"), candidates("at"))
def test_a_baseline_beats_a_model_if_and_only_if_it_is_more_accurate_at_no_more_ms(
    networks: list[dict], models: list[dict], at: list[dict]
) -> None:
    told = verdict(networks, models, at, "onnxruntime")
    assert list(told["beaten"]) == [model["name"] for model in models]
    for model in models:
        for net in networks:
            more_accurate = net["top1"]["onnxruntime"] > model["top1"]["onnxruntime"]
            no_slower = not net["measured_ms"]["onnxruntime"] > model["measured_ms"]["onnxruntime"]
            assert (net["name"] in told["beaten"][model["name"]]) == (more_accurate and no_slower)
            assert not (beats(net, model, "onnxruntime") and beats(model, net, "onnxruntime"))


@given(candidates("net"), candidates("model"), candidates("at"))
def test_beside_a_baseline_stands_what_was_made_for_its_latency_and_the_differences(
    networks: list[dict], models: list[dict], at: list[dict]
) -> None:
    told = verdict(networks, models, at, "onnxruntime")
    by_name = {row["name"]: row for row in at}
    for net, row in zip(networks, told["beside"], strict=True):
        assert row["baseline"] == net["name"]
        kept = [candidate["limit_ms"] for candidate in at if candidate["limit_ms"] <= net["limit_ms"]]
        if not kept:
            assert row["model"] is row["points"] is row["speed"] is at_limit(at, net["limit_ms"]) is None
            continue
        mine = by_name[row["model"]]
        assert mine["limit_ms"] == max(kept)
        assert net["top1"]["onnxruntime"] + row["points"] == pytest.approx(mine["top1"]["onnxruntime"])
        assert mine["measured_ms"]["onnxruntime"] * row["speed"] == pytest.approx(net["measured_ms"]["onnxruntime"])


@given(candidates("net"), candidates("model"), candidates("at"))
def test_the_words_name_every_model_and_baseline_and_the_sum_counts_them(
    networks: list[dict], models: list[dict], at: list[dict]
) -> None:
    told = verdict(networks, models, at, "onnxruntime")
    found = dict(networks=networks, models=models, at=at, verdict=[told])
    lines = verdict_words(found)
    assert len(lines) == len(networks) + len(models)
    for row, line in zip(told["beside"], lines, strict=False):
        assert f"at the latency of {row['baseline']} (" in line and ("none so fast" in line) == (row["model"] is None)
    for (name, by), line in zip(told["beaten"].items(), lines[len(networks) :], strict=True):
        assert f": {name} (" in line and all(f"{net} (" in line for net in by) and ("by no baseline" in line) == (not by)
    (said,) = verdict_sums(found)
    lost = sum(any(beats(net, model, "onnxruntime") for net in networks) for model in models)
    assert f"baselines beat {lost} of {len(models)} models" in said
    assert said.endswith(f"none so fast as {sum(row['model'] is None for row in told['beside'])}")
