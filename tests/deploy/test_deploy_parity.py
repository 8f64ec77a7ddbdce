"""The ONNX files: they compute what was trained, in integer kernels, and are sound as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from deploy.nets import QUANTIZER, demo_subnet, logits, random_net, small_stage, smooth_images

from spaceevo.deploy.claims.parity import label_agreement
from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.fold import float_model, integer_model
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.runtimes.ort import integer_op_report, run_batches, session
from spaceevo.nn.elastic import Quantizer
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS, PADDINGS


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_fp32_file_computes_what_the_float_subnet_does(kind: str, act: str) -> None:
    graph = small_stage(kind, act)
    net, stats = random_net(graph, padding=PADDINGS[len(act) % 2])
    x = smooth_images(4, graph, seed=1)
    expected = logits(net, graph, stats, x, None)
    np.testing.assert_allclose(
        run_batches(session(write_fp32(float_model(net, graph, stats))), x.numpy()), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_a_product_with_a_sigmoid_is_a_swish_in_fp32_files(kind: str, act: str) -> None:
    """OpenCV takes ``Mul(x, HardSigmoid(y))`` for a hard-swish without looking whether y is x: a gate is none of these."""
    graph = small_stage(kind, act)
    nodes = onnx.load_from_string(write_fp32(random_models(graph, np.random.default_rng(0), Quantizer())[1])).graph.node
    made_by = {node.output[0]: node for node in nodes}
    products = [[made_by.get(name) for name in node.input] for node in nodes if node.op_type == "Mul"]
    assert len(products) == sum(op.kind in ("mul", "swish") for op in graph.ops)
    gates = [(x, gate) for x, gate in products if gate is not None and gate.op_type != "Clip"]
    assert all(gate.op_type == "Sigmoid" and x is made_by.get(gate.input[0]) for x, gate in gates)
    assert "HardSigmoid" not in {node.op_type for node in nodes}


@pytest.mark.parametrize("types", ["0123", "4560", "2646"])
def test_whole_subnets_give_fake_quantization_s_labels(types: str) -> None:
    graph = demo_subnet(types)
    net, stats = random_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(300, graph, seed=1)
    runtime = run_batches(session(write_int8(model, batch=None)), x.numpy())
    expected = logits(net, graph, stats, x, QUANTIZER)
    assert label_agreement(expected, runtime) >= 98.0  # untrained: logits of little margin
    assert np.abs(runtime - expected).mean() < 0.75 * model.output_qparams[0]  # each op is the trained one: test_exactness


@pytest.mark.parametrize("types", ["4560", "2222"])
def test_nothing_runs_in_float(types: str) -> None:
    graph = demo_subnet(types)
    net, stats = random_net(graph)
    report = integer_op_report(write_int8(integer_model(net, graph, stats, QUANTIZER)))
    integer = {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearGlobalAveragePool"}
    assert set(report) - integer <= {"QuantizeLinear", "DequantizeLinear", "Transpose", "Flatten"}
    assert report["QLinearConv"] == sum(op.has_weight for op in graph.ops)
    assert report["QuantizeLinear"] == report["DequantizeLinear"] == 1


def test_an_unused_channel_stays_zero() -> None:
    graph = small_stage("mbv1", "relu")
    net, stats = random_net(graph)
    op = graph.ops[0]
    net.ops_by_name[op.name].gain.data[0] = 0.0
    model = integer_model(net, graph, stats, QUANTIZER)
    assert not model.weights[op.name][0].any()


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_are_narrow(bits: int) -> None:
    graph = small_stage("fused_mb", "relu")
    net, stats = random_net(graph)
    net.init_quantizers(smooth_images(64, graph), [graph], graph, Quantizer(bits))
    model = integer_model(net, graph, stats, Quantizer(bits))
    assert max(np.abs(w.astype(int)).max() for w in model.weights.values()) == 2 ** (bits - 1) - 1


def test_exact_sessions_run_eight_bit_weights_on_any_x86() -> None:
    graph = small_stage("residual_bottleneck_se", "relu")
    net, stats = random_net(graph)
    net.init_quantizers(smooth_images(64, graph), [graph], graph, Quantizer(8))
    model = integer_model(net, graph, stats, Quantizer(8))
    x = smooth_images(8, graph, seed=1)
    exact = run_batches(session(write_int8(model), exact=True), x.numpy())
    np.testing.assert_array_equal(exact, run_integer(model, x.numpy()))


def test_models_take_one_image_or_any_number() -> None:
    graph = demo_subnet("0123")
    net, stats = random_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(5, graph).numpy()
    one, many = session(write_int8(model)), session(write_int8(model, batch=None))
    assert one.get_inputs()[0].shape[0] == 1
    np.testing.assert_array_equal(run_batches(one, x), run_batches(many, x, batch=2))


def test_files_pass_the_checker_and_their_bytes_depend_on_the_model_alone(tmp_path: Path) -> None:
    graph = demo_subnet("2646")
    net, stats = random_net(graph)
    files = []
    for _ in range(2):
        model = integer_model(net, graph, stats, QUANTIZER)
        files.append((write_int8(model), write_fp32(float_model(net, graph, stats))))
    assert files[0] == files[1]
    for data in files[0]:
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        onnx.checker.check_model(str(path), full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
        assert session(path).get_outputs()[0].name == "logits"
