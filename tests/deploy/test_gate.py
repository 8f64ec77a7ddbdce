"""The parity gate: what is refused, why, and which op is named. Every fault, however little, is one that it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as tfl
from deploy.nets import QUANTIZER, demo_subnet, smooth_images, trained_net
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.deploy.claims.gate import FLOOR, broken_claims, compare, digest, judge_ops, parity_report, refusal
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_graph import IDENTIFIER
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.inputs import Shown
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.trained import Trained
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph, superset_graph
from spaceevo.space.graph import Op

IMAGES = 64
#: By :func:`spaceevo.deploy.claims.gate.compare`: as good as can be.
SOUND = dict(agreement=100.0, mean_difference=0.0, max_difference=0.0)
Exported = tuple[Trained, IntegerModel, np.ndarray]


@pytest.fixture(scope="module", params=["0456", "2446"])
def exported(request: pytest.FixtureRequest) -> Exported:
    """A subnet after a few quantization-aware steps, its integer model and images: all ops that there are, but a pool."""
    graph = demo_subnet(request.param, seed=3)
    net, stats = trained_net(graph, seed=1)
    model = integer_model(net, graph, stats, QUANTIZER)
    return Trained(net, graph, stats, QUANTIZER), model, smooth_images(IMAGES, graph, seed=2).numpy()


def ops(model: IntegerModel, *kinds: str) -> list[Op]:
    return [op for op in model.graph.ops if op.kind in kinds]


def judged(trained: Trained, model: IntegerModel, images: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Rows of the gate for both files of a model."""
    names = [op.name for op in model.graph.ops]
    return {
        "model.onnx": judge_ops(trained, ort.inspect(write_int8(model), names, images), images),
        "model.tflite": judge_ops(trained, litert.inspect(write_tflite(model), names, images), images),
    }


def of(model: IntegerModel, part: str, op: str, change: Callable[[Any], Any]) -> tuple[IntegerModel, str]:
    """The model with one entry changed, and the op whose it is."""
    return replace(model, **{part: {**getattr(model, part), op: change(getattr(model, part)[op])}}), op


def raised(array: np.ndarray, by: float, where: int = 0) -> np.ndarray:
    """``array`` ``[cout, ...]`` with one element of its greatest channel ``by`` greater."""
    changed = array.copy()
    changed.reshape(-1)[where] += np.asarray(by, array.dtype)
    return changed


def channel(trained: Trained, op: Op) -> int:
    """The channel whose outputs vary most: a channel that an activation clips away shows no fault."""
    gain, _ = trained.net.folded(op, trained.stats)
    return 0 if gain is None else int(gain.abs().argmax())


def lighter(weights: np.ndarray) -> np.ndarray:
    """One weight nearer to 0 by one integer."""
    flat = weights.reshape(-1)
    i = int(np.abs(flat.astype(int)).argmax())
    return raised(weights, -np.sign(flat[i]), i)


#: A fault, as code that is wrong would make it: the model with it, and the op that is to be named.
FAULTS: dict[str, Callable[[Trained, IntegerModel], tuple[IntegerModel, str]]] = {
    "a convolution's scale is twice as great": lambda t, m: of(m, "qparams", conv(m), lambda q: (2 * q[0], q[1])),
    "all scales of activations are eight times as great": lambda t, m: (
        replace(m, qparams={name: (8 * scale, zero) for name, (scale, zero) in m.qparams.items()}),
        "input",
    ),
    "an addition's scale is 0.1 % off": lambda t, m: of(m, "qparams", ops(m, "add")[0].name, lambda q: (1.001 * q[0], q[1])),
    "the input's scale is 0.1 % off": lambda t, m: of(m, "qparams", "input", lambda q: (1.001 * q[0], q[1])),
    "a zero point is one off": lambda t, m: of(m, "qparams", ops(m, "add")[0].name, lambda q: (q[0], q[1] + 1)),
    "a gate's scale is 1/256": lambda t, m: of(m, "qparams", gate(m), lambda q: (q[0] * 255 / 256, q[1])),
    "a bias is a tenth of an output step off": lambda t, m: of(m, "biases", conv(m), lambda b: biased(t, m, b)),
    "a bias is missing": lambda t, m: of(m, "biases", "classifier", np.zeros_like),
    "a weight is one integer off": lambda t, m: of(m, "weights", conv(m), lighter),
    "a depthwise weight is one integer off": lambda t, m: of(m, "weights", depthwise(m), lighter),
    "weight scales are 1 % off": lambda t, m: of(m, "weight_scales", depthwise(m), lambda s: s * np.float32(1.01)),
    "kernels are turned about": lambda t, m: of(m, "weights", depthwise(m), lambda w: w.transpose(0, 1, 3, 2).copy()),
    "padding is another": lambda t, m: (replace(m, padding="same"), next(op.name for op in m.graph.ops if op.stride == 2)),
}


def conv(model: IntegerModel) -> str:
    return ops(model, "conv")[1].name


def depthwise(model: IntegerModel) -> str:
    return ops(model, "depthwise")[0].name


def gate(model: IntegerModel) -> str:
    return next(op.name for op in model.graph.ops if "hsigmoid" in (op.kind, op.act))


def biased(trained: Trained, model: IntegerModel, bias: np.ndarray) -> np.ndarray:
    """A tenth of an output step more in the channel that varies most."""
    op = ops(model, "conv")[1]
    where = channel(trained, op)
    return raised(bias, np.rint(0.1 * model.qparams[op.name][0] / model.bias_scale(op)[where]) + 1, where)


def test_right_files_leave(exported: Exported) -> None:
    trained, model, images = exported
    rows = judged(trained, model, images)
    report = parity_report(dict.fromkeys(rows, SOUND), rows, len(images), 99.0, 0.25)
    assert report["refused"] == [] and report["first_apart"] is None
    assert [row["op"] for row in report["ops"]] == ["input", *(op.name for op in model.graph.ops), "logits"]
    assert max(row["steps"] for found in rows.values() for row in found) <= FLOOR / 20


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_in_both_files_and_its_op_named(fault: str, exported: Exported) -> None:
    trained, model, images = exported
    wrong, op = FAULTS[fault](trained, model)
    for name, rows in judged(trained, wrong, images).items():
        report = parity_report({name: SOUND}, {name: rows}, len(images), 0.0, 1e9)
        assert report["first_apart"]["op"] == op, (name, report["first_apart"])
        assert report["refused"][0].startswith(f"{name} has ")
        text = refusal(report)
        assert f"{name} parts from the trained model first in {op} (" in text and "\n" not in text


@pytest.mark.parametrize(("swapped", "by"), [("Sigmoid", "HardSigmoid"), ("Add", "Mul")])
def test_an_op_of_another_kind_in_the_file_is_refused(swapped: str, by: str, exported: Exported) -> None:
    """In the file alone, its constants left as they are."""
    trained, model, images = exported
    proto = onnx.load_from_string(write_int8(model))
    nodes = [node for node in proto.graph.node if node.op_type == swapped and node.name in {op.name for op in model.graph.ops}]
    if not nodes:
        pytest.skip(f"no {swapped} in this subnet")
    nodes[0].op_type = by
    rows = judge_ops(trained, ort.inspect(proto.SerializeToString(), [op.name for op in model.graph.ops], images), images)
    first = next(row for row in rows if row["why"])
    assert first["op"] == nodes[0].name.removesuffix(".gate") and first["apart"] > 0.1


def test_a_convolution_that_reads_another_scale_than_its_input_has_is_refused(exported: Exported) -> None:
    trained, model, images = exported
    proto = onnx.load_from_string(write_int8(model))
    op = ops(model, "conv")[2]
    (node,) = (node for node in proto.graph.node if node.name == f"{op.inputs[0]}.dq")
    other = onnx.numpy_helper.from_array(np.float32(1.02 * model.qparams[op.inputs[0]][0]), "other")
    proto.graph.initializer.append(other)
    node.input[1] = "other"
    rows = judge_ops(trained, ort.inspect(proto.SerializeToString(), [op.name for op in model.graph.ops], images), images)
    assert {op.name for op in model.graph.consumers()[op.inputs[0]]} & {row["op"] for row in rows if row["why"]}


def coarser_onnx(model: IntegerModel, by: float) -> bytes:
    """The ONNX file, of which the last DequantizeLinear alone reads a scale that is ``by`` as great."""
    proto = onnx.load_from_string(write_int8(model))
    node = next(node for node in proto.graph.node if node.name == f"{model.graph.output.name}.dq")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(by * model.output_qparams[0]), "other"))
    node.input[1] = "other"
    return proto.SerializeToString()


def coarser_tflite(model: IntegerModel, by: float, float_io: bool) -> bytes:
    """The TFLite file, of which the flat tensor alone that is or becomes the logits has a scale that is ``by`` as great."""
    held = tfl.ModelT.InitFromPackedBuf(write_tflite(model, float_io), 0)
    name = f"{model.graph.output.name}.flat" if float_io else "logits"
    (tensor,) = (t for t in held.subgraphs[0].tensors if t.name.decode() == name)
    tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * np.float32(by)
    builder = flatbuffers.Builder(0)
    builder.Finish(held.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


@pytest.mark.parametrize("by", [1.002, 0.5])
def test_an_output_of_another_scale_than_the_last_op_has_is_refused(by: float, exported: Exported) -> None:
    trained, model, images = exported
    names = [op.name for op in model.graph.ops]
    wrong = {
        "onnx": ort.inspect(coarser_onnx(model, by), names, images),
        "tflite": litert.inspect(coarser_tflite(model, by, False), names, images),
        "tflite of floats": litert.inspect(coarser_tflite(model, by, True), names, images),
    }
    for name, file in wrong.items():
        *rows, last = judge_ops(trained, file, images)
        assert not any(row["why"] for row in rows), name
        assert last["op"] == "logits" and "steps from the last op's integers" in last["why"], name
    right = judge_ops(trained, litert.inspect(write_tflite(model, float_io=True), names, images), images)
    assert not any(row["why"] for row in right)


def test_a_refused_file_s_report_says_why_and_where(exported: Exported) -> None:
    trained, model, images = exported
    wrong, op = FAULTS["weight scales are 1 % off"](trained, model)
    figures = dict.fromkeys(("model.onnx", "model.tflite"), SOUND) | {
        "model.onnx": dict(agreement=90.0, mean_difference=2.0, max_difference=7.0),
        "fp32.onnx": dict(top1=1.0),
    }
    rows = judged(trained, model, images) | {"model.tflite": judged(trained, wrong, images)["model.tflite"]}
    report = parity_report(figures, rows, len(images), 99.0, 0.5)
    assert len(report["refused"]) == 3
    assert (report["first_apart"]["file"], report["first_apart"]["op"]) == ("model.tflite", op)
    text = refusal(report)
    for part in ("model.onnx agrees", "90.00 %", "export.tolerance=99.0", "2 output steps", "export.mean_difference=0.5", op):
        assert part in text
    assert "\n" not in text
    sound = parity_report(figures, {"model.onnx": rows["model.onnx"]}, len(images), 90.0, 2.0)
    assert sound["refused"] == []
    broken = parity_report(figures, {"model.onnx": rows["model.onnx"]}, len(images), 99.0, 2.0)
    assert "op by op the files give what the trained ops make of the same inputs" in refusal(broken)


@pytest.mark.parametrize("factor", [2, 8])
def test_a_file_of_wrong_scales_is_not_compared_with_itself(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales that the export makes ``factor`` times too great: the judge's stay as they were trained."""
    from spaceevo.deploy import export

    def coarse(*arguments: Any) -> IntegerModel:
        model = integer_model(*arguments)
        return replace(model, qparams={name: (factor * scale, zero) for name, (scale, zero) in model.qparams.items()})

    space = SearchSpace.parse("tiny-0120-1111", load_hyperspace("tiny").with_task(channels=1, classes=10))
    subnet = Subnet.smallest(space)
    net, _ = trained_net(superset_graph(space))
    images = smooth_images(IMAGES, subnet_graph(subnet), seed=5)
    labels = torch.zeros(len(images), dtype=torch.long)
    right = export.int8_and_fp32(net, subnet_graph(subnet), images, QUANTIZER)
    monkeypatch.setattr(export, "integer_model", coarse)
    wrong = export.int8_and_fp32(net, subnet_graph(subnet), images, QUANTIZER)
    seen = Shown(images, images.numpy())
    figures = [export.check(pair, seen, labels) for pair in (right, wrong)]
    assert figures[0]["mean_difference"] < 0.5 < figures[1]["mean_difference"]
    assert figures[0]["top1_fake_quant"] == figures[1]["top1_fake_quant"]
    for pair, expected in ((right, None), (wrong, "input")):
        ops = export.judged_ops(pair, seen, len(images))
        first = parity_report(dict.fromkeys(ops, SOUND), ops, len(images), 0.0, 1e9)["first_apart"]
        assert (first and first["op"]) == expected


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
