"""One integer model, the same integers in the reference, in onnxruntime and in LiteRT: op by op and end to end."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as tfl
from deploy.nets import QUANTIZER, VNNI, demo_subnet, logits, random_net, small_stage, smooth_images, trained_net

from spaceevo.deploy.claims.gate import judge_ops
from spaceevo.deploy.claims.parity import float_convolutions, label_agreement, partings
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.integer.settle import disagreements
from spaceevo.deploy.integer.trained import Trained
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Graph, published_subnet, subnet_graph
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS, PADDINGS, GraphBuilder

ALL = list(product(BLOCK_TYPES, ACTIVATIONS, (1, 2), (7, 8), PADDINGS))
#: Of ``ALL``, each block type and activation with some stride, bits and padding.
SOME = [ALL[8 * i + (3 * i + i // 5) % 8] for i in range(len(ALL) // 8)]
SYMMETRIC = Quantizer(QUANTIZER.weight_bits, "symmetric")
#: Every other of ``SOME``: each block type with two activations, each activation with half of the block types.
FEW = [case for i, case in enumerate(SOME) if (i + i // 4) % 2 == 0]


def check_runtimes(model: IntegerModel, images: np.ndarray, bits: int, without_xnnpack: bool = True) -> None:
    """Identical integers of every op given the same inputs, and of the whole."""
    exact = bits == 8 and not VNNI
    assert partings(model, ort.record_ops(model, images, exact)) == []
    assert partings(model, litert.record_ops(model, images)) == []
    expected = run_integer(model, images)
    onnx_file = write_int8(model, batch=None)
    np.testing.assert_array_equal(ort.run_batches(ort.session(onnx_file, exact=exact), images), expected)
    np.testing.assert_array_equal(litert.run_batches(litert.interpreter(write_tflite(model)), images), expected)
    assert float_convolutions(ort.integer_op_report(onnx_file)) == 0
    if without_xnnpack:
        other = partings(model, litert.record_ops(model, images, xnnpack=False))
        assert max((p.steps for p in other), default=0) <= 1


def check_stage(kind: str, act: str, stride: int, bits: int, padding: str, activations: str = "affine") -> None:
    graph, quantizer = small_stage(kind, act, stride), Quantizer(bits, activations)
    net, stats = trained_net(graph, len(kind) + stride, quantizer, padding)
    model = integer_model(net, graph, stats, quantizer)
    images = smooth_images(8, graph, seed=1)
    check_runtimes(model, images.numpy(), bits)
    check_ops(Trained(net, graph, stats, quantizer), model, images.numpy())
    given = run_integer(model, images.numpy())
    steps = np.abs(given - logits(net, graph, stats, images, quantizer)) / model.output_qparams[0]
    # Ties that fall the other way go from op to op: a seventh of the elements in the worst of all cases.
    assert np.mean(steps) < 0.25 and given.std() > 3 * model.output_qparams[0]


def check_ops(trained: Trained, model: IntegerModel, images: np.ndarray, floor: float = 1e-4) -> None:
    """Every op of both files is the trained one: the gate's floor of correct files."""
    names = [op.name for op in model.graph.ops]
    for file in (ort.inspect(write_int8(model), names, images), litert.inspect(write_tflite(model), names, images)):
        rows = judge_ops(trained, file, images)
        assert [row["op"] for row in rows] == ["input", *names, "logits"]
        assert [row for row in rows if row["why"]] == []
        assert max(row["steps"] for row in rows) <= floor


@pytest.mark.parametrize(("kind", "act", "stride", "bits", "padding"), SOME)
def test_every_block_type_and_activation_gives_the_same_integers_everywhere(
    kind: str, act: str, stride: int, bits: int, padding: str
) -> None:
    check_stage(kind, act, stride, bits, padding)


@pytest.mark.parametrize(("kind", "act", "stride", "bits", "padding"), FEW)
def test_symmetric_activations_give_the_same_integers_everywhere(
    kind: str, act: str, stride: int, bits: int, padding: str
) -> None:
    check_stage(kind, act, stride, bits, padding, "symmetric")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "act", "stride", "bits", "padding"), [case for case in ALL if case not in FEW])
def test_every_combination_of_symmetric_activations_gives_the_same_integers_everywhere(
    kind: str, act: str, stride: int, bits: int, padding: str
) -> None:
    check_stage(kind, act, stride, bits, padding, "symmetric")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "act", "stride", "bits", "padding"), [case for case in ALL if case not in SOME])
def test_every_combination_gives_the_same_integers_everywhere(
    kind: str, act: str, stride: int, bits: int, padding: str
) -> None:
    check_stage(kind, act, stride, bits, padding)


@pytest.mark.parametrize(
    ("types", "quantizer"), [("0123", QUANTIZER), ("4560", QUANTIZER), ("2646", QUANTIZER), ("2460", SYMMETRIC)]
)
def test_whole_subnets_give_the_same_integers_everywhere(types: str, quantizer: Quantizer) -> None:
    graph = demo_subnet(types)
    net, stats = trained_net(graph, 2, quantizer)
    model = integer_model(net, graph, stats, quantizer)
    images = smooth_images(30, graph, seed=3).numpy()
    check_runtimes(model, images, quantizer.weight_bits)
    check_ops(Trained(net, graph, stats, quantizer), model, images)


@pytest.mark.parametrize("quantizer", [QUANTIZER, SYMMETRIC], ids=lambda quantizer: quantizer.activations)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("act", ["relu", "hswish"])
def test_a_deep_stem_s_pool_gives_the_same_integers_everywhere(act: str, padding: str, quantizer: Quantizer) -> None:
    g = GraphBuilder(3, 20)
    x = g.conv("conv", g.x, 8, kernel=3, stride=2, act=act)  # hard-swish: values below 0, which padding must not exceed
    x = g.maxpool("pool", x, kernel=3, stride=2)
    g.conv("classifier", g.mean("mean", x), 5, norm=False)
    net, stats = trained_net(g.graph, 0, quantizer, padding)
    model = integer_model(net, g.graph, stats, quantizer)
    assert model.qparams["pool"] == model.qparams[g.graph.ops[-3].inputs[0]]
    images = smooth_images(20, g.graph, seed=1).numpy()
    check_runtimes(model, images, quantizer.weight_bits)
    check_ops(Trained(net, g.graph, stats, quantizer), model, images)


@pytest.mark.parametrize("quantizer", [QUANTIZER, SYMMETRIC], ids=lambda quantizer: quantizer.activations)
def test_no_input_of_any_op_is_a_near_tie_once_scales_are_settled(quantizer: Quantizer) -> None:
    graph = demo_subnet("4252", seed=1)
    net, stats = random_net(graph, 0, quantizer)
    model = integer_model(net, graph, stats, quantizer)
    kinds = {op.kind for op in model.graph.ops}
    assert kinds == {"conv", "depthwise", "mean", "mul", "add", "hsigmoid", "sigmoid"}
    for op in model.graph.ops:
        inputs = [model.qparams[name] for name in op.inputs]
        assert disagreements(op, inputs, model.qparams[op.name], quantizer) == 0, op.name


def test_a_symmetric_file_holds_int8_with_zero_points_of_0_and_no_int32_as_tensorrt_reads_it() -> None:
    """Of every activation and gate. Its parser refuses other zero points (NVIDIA/TensorRT issues 2774 and 4698), and an int32
    bias that is dequantized (onnx/onnx-tensorrt issue 850)."""
    graph = demo_subnet("4252", seed=1)
    assert {op.kind for op in graph.ops} | {op.act for op in graph.ops} > {"hswish", "swish", "relu", "hsigmoid", "mul", "add"}
    net, stats = random_net(graph, 0, SYMMETRIC)
    model = integer_model(net, graph, stats, SYMMETRIC)
    proto = onnx.load_from_string(write_int8(model)).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.initializer}
    quantizers = [node for node in proto.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantizers) > 2 * len(graph.ops)
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in quantizers)
    assert {array.dtype for array in constants.values()} == {np.dtype(np.int8), np.dtype(np.float32)}
    assert all(constants[node.input[2]].dtype == np.float32 for node in proto.node if node.op_type == "Conv")
    (file,) = tfl.ModelT.InitFromPackedBuf(write_tflite(model), 0).subgraphs
    zeros = [tensor.quantization.zeroPoint for tensor in file.tensors if tensor.quantization is not None]
    assert len(zeros) > 2 * len(graph.ops) and not any(np.any(zero) for zero in zeros)


def published(name: str) -> tuple[Graph, int]:
    subnet = published_subnet(name)
    return subnet_graph(subnet), subnet.cost().params


@pytest.mark.slow
@pytest.mark.parametrize(("name", "padding"), [("SEQnet@vnni-A4", "symmetric"), ("SEQnet@pixel4-A4", "same")])
def test_models_of_published_size_give_the_same_integers_everywhere(name: str, padding: str) -> None:
    graph, params = published(name)
    net, stats = random_net(graph, padding=padding, images=8)
    model = integer_model(net, graph, stats, QUANTIZER)
    assert len(write_int8(model)) <= 1.1 * params and len(write_tflite(model)) <= 1.1 * params
    images = smooth_images(2, graph, seed=1).numpy()
    check_runtimes(model, images, QUANTIZER.weight_bits)
    check_ops(Trained(net, graph, stats, QUANTIZER), model, images, 1e-2)
    assert run_integer(model, images).std() > 3 * model.output_qparams[0]


@pytest.mark.slow
@pytest.mark.parametrize("types", ["0123", "2446"])
def test_ten_thousand_images_give_the_same_integers_and_fake_quantization_s_labels(types: str) -> None:
    """A trained subnet of the demo's hyperspace on moved digits: relu, relu6, hard-swish, SE, and swish."""
    from deploy.digits import moved_digits, train

    graph = demo_subnet(types)
    x, y = moved_digits(2000, graph.input.hw, seed=0)
    net, stats = train(graph, x, y, QUANTIZER)
    model = integer_model(net, graph, stats, QUANTIZER)
    x, y = moved_digits(10_000, graph.input.hw, seed=1)
    expected = run_integer(model, x.numpy())
    runtimes = (
        ort.run_batches(ort.session(write_int8(model)), x.numpy()),
        litert.run_batches(litert.interpreter(write_tflite(model)), x.numpy()),
    )
    for given in runtimes:
        np.testing.assert_array_equal(given, expected)
    fake = logits(net, graph, stats, x, QUANTIZER)
    assert label_agreement(fake, expected) >= 99.9
    truth = y.numpy()
    assert np.mean(expected.argmax(1) == truth) > 0.9
    assert abs(np.mean(expected.argmax(1) == truth) - np.mean(fake.argmax(1) == truth)) <= 0.0005
