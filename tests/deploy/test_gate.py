"""The parity gate: what is refused, why, and which op is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.deploy.fold import integer_model
from spaceevo.deploy.gate import broken_claims, compare, compare_ops, digest, parity_report, refusal
from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.onnx_writer import write_int8
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import calibrate
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph

torch.set_num_threads(1)
VNNI = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_vnni", "avx_vnni"))


@pytest.fixture(scope="module")
def exported() -> tuple[IntegerModel, bytes, np.ndarray]:
    """A subnet of random weights as integers and as a file, and images."""
    torch.manual_seed(0)
    space = SearchSpace.parse("demo-0456-1111", load_hyperspace("demo").with_task(channels=1, classes=10))
    graph = subnet_graph(Subnet.sample(space, np.random.default_rng(0)))
    net, quantizer = Elastic(graph), Quantizer(8 if VNNI else 7)
    x = torch.rand(32, 1, graph.input.hw, graph.input.hw)
    net.init_quantizers(x, [graph], graph, quantizer)
    model = integer_model(net, graph, calibrate(net, graph, [x]), quantizer)
    return model, write_int8(model), x.numpy()


def with_another_scale(file: bytes, op: str) -> bytes:
    """The file with an op's weight scales 5 % greater."""
    proto = onnx.load_from_string(file)
    (scale,) = (tensor for tensor in proto.graph.initializer if tensor.name == f"{op}.weight_scale")
    greater = onnx.numpy_helper.to_array(scale) * np.float32(1.05)
    scale.CopyFrom(onnx.numpy_helper.from_array(greater, scale.name))
    return proto.SerializeToString()


def test_a_file_gives_the_reference_s_integers_op_by_op(exported: tuple[IntegerModel, bytes, np.ndarray]) -> None:
    model, file, images = exported
    rows = compare_ops(model, file, images)
    assert [row["op"] for row in rows] == [op.name for op in model.graph.ops]
    swish = max((row["steps"] for row in rows), default=0)
    assert swish <= 1  # a sigmoid may round a tie otherwise
    assert all(row["apart"] <= 1 for row in rows)


@pytest.mark.parametrize("which", [0, 5, -1])
def test_the_op_that_was_tampered_with_is_the_first_apart(which: int, exported: tuple[IntegerModel, bytes, np.ndarray]) -> None:
    model, file, images = exported
    untouched = {row["op"] for row in compare_ops(model, file, images) if row["steps"]}
    op = [op.name for op in model.graph.ops if op.has_weight][which]
    rows = [row for row in compare_ops(model, with_another_scale(file, op), images) if row["op"] not in untouched]
    first = next(row for row in rows if row["steps"])
    assert first["op"] == op and first["steps"] > 1 and first["apart"] > 5


def test_a_refused_file_s_report_says_why_and_where(exported: tuple[IntegerModel, bytes, np.ndarray]) -> None:
    model, file, images = exported
    op = model.graph.ops[0].name
    figures = {"model.onnx": dict(agreement=90.0, mean_difference=2.0, max_difference=7.0), "fp32.onnx": dict(top1=1.0)}
    report = parity_report(figures, model, with_another_scale(file, op), images, 99.0, 0.5)
    assert len(report["refused"]) == 2 and report["first_apart"]["op"] == op
    text = refusal(report)
    for part in ("model.onnx agrees", "90.00 %", "export.tolerance=99.0", "2 output steps", "export.mean_difference=0.5", op):
        assert part in text
    assert "\n" not in text
    assert parity_report({"model.onnx": figures["model.onnx"]}, model, file, images, 90.0, 2.0)["refused"] == []


def test_ties_count_as_equal_labels_and_differences_are_in_steps() -> None:
    trained = np.array([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]])
    runtime = np.array([[1.0, 3.0, 3.0], [4.0, 0.0, 6.0]])
    figures = compare(runtime, trained, step=0.5)
    assert figures == dict(agreement=50.0, mean_difference=pytest.approx((2 + 2 + 12) / 6), max_difference=12.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 9), st.floats(0, 9))
def test_a_file_leaves_exactly_when_both_figures_are_within_their_limits(
    agreement: float, tolerance: float, mean: float, limit: float
) -> None:
    broken = broken_claims(dict(agreement=agreement, mean_difference=mean), tolerance, limit)
    assert (not broken) == (agreement >= tolerance and mean <= limit)


def test_figures_that_are_no_numbers_are_refused() -> None:
    assert len(broken_claims(dict(agreement=float("nan"), mean_difference=float("nan")), 0.0, 1e9)) == 2


def test_digests_differ_in_a_single_bit() -> None:
    logits = np.ones((4, 10), np.float32)
    other = logits.copy()
    other[2, 3] = np.nextafter(np.float32(1), np.float32(2))
    assert digest(logits) == digest(logits.copy()) != digest(other)
