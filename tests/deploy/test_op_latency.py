"""Latency op by op: every op is named, and a model's ops add up to what was measured of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.deploy.runtimes.op_latency import AFTER, BEFORE, adding_up_to, graph_rows, op_table, owners, profile_nodes
from spaceevo.latency.measure import latency, measure
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Graph, SearchSpace, Subnet, load_hyperspace, subnet_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    """All activations: hswish, swish and the fused ones."""
    space = SearchSpace.parse("small-4562-1111", load_hyperspace("small"))
    return subnet_graph(Subnet.largest(space))


@pytest.fixture(scope="module")
def models(graph: Graph) -> dict[str, bytes]:
    integer, full = random_models(graph, np.random.default_rng(0), Quantizer())
    return {"int8": write_int8(integer), "fp32": write_fp32(full)}


@pytest.fixture(scope="module")
def table(graph: Graph, models: dict[str, bytes]) -> list[dict[str, Any]]:
    return op_table(graph_rows(graph), models, {name: latency(taken) for name, taken in measure(models, 5, 20).items()})


def test_every_op_has_a_row_with_its_shape(graph: Graph, table: list[dict[str, Any]]) -> None:
    assert [row["op"] for row in table] == [BEFORE, *(op.name for op in graph.ops), AFTER]
    for op, row in zip(graph.ops, table[1:-1], strict=True):
        assert row["kind"] == op.kind and row["shape"] == [op.cout, op.out_hw, op.out_hw]
    assert sum(row["mmacs"] or 0 for row in table) == pytest.approx(sum(op.macs for op in graph.ops) / 1e6)


@pytest.mark.parametrize("total", [1e-3, 1e3])
def test_a_models_ops_add_up_to_its_latency_on_a_machine_of_any_speed(
    total: float, graph: Graph, models: dict[str, bytes]
) -> None:
    table = op_table(graph_rows(graph), models, {"int8": total, "fp32": 2 * total})
    assert sum(row["int8_ms"] or 0 for row in table) == pytest.approx(total)
    assert sum(row["fp32_ms"] or 0 for row in table) == pytest.approx(2 * total)
    assert all(row[key] is None or row[key] >= 0 for row in table for key in ("int8_ms", "fp32_ms"))


def test_int8_ops_run_as_the_kernels_one_expects(graph: Graph, table: list[dict[str, Any]]) -> None:
    expected = {
        "conv": {"QLinearConv"},
        "depthwise": {"QLinearConv"},
        "add": {"QLinearAdd"},
        "mul": {"QLinearMul"},
        "mean": {"QLinearGlobalAveragePool"},
        "swish": {"QLinearSigmoid", "QLinearMul"},
    }
    kinds = {op.name: op.kind for op in graph.ops}
    for row in table[1:-1]:
        assert row["int8_ms"] is not None, row
        wanted = expected.get(kinds[row["op"]])
        if wanted is not None:
            assert set(row["int8_kernels"]) == wanted, row
    hswish = [row for row in table if row["kind"] == "hswish"]
    pieces = {"DequantizeLinear", "HardSigmoid", "Mul", "QuantizeLinear"}, {"QLinearAdd", "QLinearMul"}  # in float, or not
    assert hswish and all(set(row["int8_kernels"]) in pieces for row in hswish)


def test_layout_changes_belong_to_the_op_that_needs_them(graph: Graph, models: dict[str, bytes]) -> None:
    nodes, optimized = profile_nodes(models["fp32"], runs=3)
    belongs = owners(nodes, optimized, [op.name for op in graph.ops])
    reorders = [node.name for node in nodes if node.kernel.startswith("Reorder")]
    assert all(belongs[name] in {op.name for op in graph.ops} | {AFTER} for name in reorders)
    of_kind = {op.name: op.kind for op in graph.ops}
    assert {of_kind.get(belongs[name], AFTER) for name in reorders} <= {"conv", "depthwise", "mean", "mul", "add", AFTER}


def test_the_half_of_the_ops_with_more_multiply_adds_takes_longer(table: list[dict[str, Any]]) -> None:
    weighted = sorted((row for row in table if row["mmacs"]), key=lambda row: row["mmacs"])
    half = len(weighted) // 2
    light, heavy = (sum(row["fp32_ms"] or 0 for row in rows) for rows in (weighted[:half], weighted[half:]))
    assert heavy > light


@settings(max_examples=60, deadline=None)
@given(arrays(float, st.integers(1, 40), elements=st.floats(0, 5)), st.floats(0.001, 300))
def test_all_kernels_change_by_the_same_and_add_up_to_the_total(ms: np.ndarray, total: float) -> None:
    found = adding_up_to(total, ms)
    assert (found >= 0).all() and found.sum() == pytest.approx(total)
    changed = (found - ms)[found > 0]
    assert np.ptp(changed) <= 1e-9 and (changed >= 0).all() == (total >= ms.sum())
