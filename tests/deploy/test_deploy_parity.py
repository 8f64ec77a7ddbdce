"""The exported files compute what was trained: fake quantization against onnxruntime, for every block type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from spaceevo.deploy.fold import float_model, integer_model
from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.parity import agreement, float_convolutions, integer_op_report, run_batches, session
from spaceevo.deploy.reference import run_integer
from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.space import (
    BlockChoice,
    ElasticStage,
    Graph,
    SearchSpace,
    Subnet,
    load_hyperspace,
    random_stage,
    stage_graph,
    subnet_graph,
)
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND
from spaceevo.space.graph import ACTIVATIONS

torch.set_num_threads(1)
#: With VNNI, 8-bit weights are exact in onnxruntime; without, 7 bits are.
VNNI = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_vnni", "avx_vnni"))
QUANTIZER = Quantizer(weight_bits=8 if VNNI else 7)


def smooth_images(n: int, graph: Graph, seed: int = 0) -> torch.Tensor:
    """Random images ``[n, C, R, R]`` in [0, 1] with neighbouring pixels alike, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, graph.input.channels, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(graph.input.hw,) * 2, mode="bilinear")


def random_net(graph: Graph, seed: int = 0) -> tuple[Elastic, Stats]:
    """Random weights, gains of either sign, shifts; quantizers and statistics from a batch."""
    torch.manual_seed(seed)
    net = Elastic(graph)
    for p in net.ops_by_name.values():
        if hasattr(p, "gain"):
            p.gain.data.uniform_(0.3, 1.5).mul_(torch.randn_like(p.gain).sign())
        if hasattr(p, "shift"):
            p.shift.data.normal_(0, 0.5)
    x = smooth_images(64, graph)
    net.init_quantizers(x, [graph], graph, QUANTIZER)
    stats: Stats = {}
    with torch.no_grad():
        net(x, graph, collect=stats)
    return net, stats


def logits(net: Elastic, graph: Graph, stats: Stats, x: torch.Tensor, quantizer: Quantizer | None) -> np.ndarray:
    with torch.no_grad():
        return net(x, graph, stats=stats, quantizer=quantizer).flatten(1).numpy()


def steps_apart(a: np.ndarray, b: np.ndarray, model: IntegerModel) -> np.ndarray:
    """Distances in steps of the output's quantizer."""
    scale, _ = model.qparams[model.graph.output.name]
    return np.rint(np.abs(a - b) / scale)


def small_stage(kind: str, act: str) -> Graph:
    """Three blocks of one type: a stride of 2 with a convolution as shortcut, an identity shortcut, other kernels."""
    block = BlockChoice(kind, (3, 5), (None,) if kind in NO_EXPAND else (1.0, 2.0), act)
    stage = ElasticStage("stage1", block, (16,), (3,), 2)
    return stage_graph(stage, random_stage(stage, np.random.default_rng(1)), cin=8, hw=11)


def demo_subnet(types: str) -> Graph:
    """A whole subnet of the demo's hyperspace, for grey images and ten labels."""
    space = SearchSpace.parse(f"demo-{types}-1111", load_hyperspace("demo").with_task(channels=1, classes=10))
    return subnet_graph(Subnet.sample(space, np.random.default_rng(0)))


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_int8_file_gives_the_reference_s_integers_and_almost_all_of_fake_quantization_s(kind: str, act: str) -> None:
    graph = small_stage(kind, act)
    net, stats = random_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(16, graph, seed=1)
    file = write_int8(model)
    runtime = run_batches(session(file), x.numpy())
    np.testing.assert_array_equal(runtime, run_integer(model, x.numpy()))
    expected = logits(net, graph, stats, x, QUANTIZER)
    steps = steps_apart(runtime, expected, model)
    assert (steps == 0).mean() > 0.97  # one tie rounded otherwise in a SE gate moves a whole channel
    assert steps.mean() < 0.05
    assert float_convolutions(integer_op_report(file)) == 0
    assert expected.std() > 3 * model.qparams[graph.output.name][0]


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_fp32_file_computes_what_the_float_subnet_does(kind: str, act: str) -> None:
    graph = small_stage(kind, act)
    net, stats = random_net(graph)
    x = smooth_images(4, graph, seed=1)
    expected = logits(net, graph, stats, x, None)
    np.testing.assert_allclose(
        run_batches(session(write_fp32(float_model(net, graph, stats))), x.numpy()), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("types", ["0123", "4560", "2646"])
def test_whole_subnets_give_the_reference_s_integers_and_fake_quantization_s_labels(types: str) -> None:
    graph = demo_subnet(types)
    net, stats = random_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(300, graph, seed=1)
    runtime = run_batches(session(write_int8(model, batch=None)), x.numpy())
    expected = logits(net, graph, stats, x, QUANTIZER)
    np.testing.assert_array_equal(runtime, run_integer(model, x.numpy()))
    assert agreement(runtime.argmax(1), expected.argmax(1)) >= 97.0  # untrained: logits of little margin
    assert steps_apart(runtime, expected, model).mean() < 0.25


@pytest.mark.parametrize("types", ["0123", "4560", "2646"])
def test_every_op_gives_the_reference_s_integers(types: str) -> None:
    graph = demo_subnet(types)
    net, stats = random_net(graph, seed=2)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(50, graph, seed=3).numpy()
    proto = onnx.load_from_string(write_int8(model, batch=None))
    names = [f"{op.name}.q" for op in graph.ops]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    outputs = session(proto.SerializeToString()).run(names, {"input": x})
    record: dict[str, np.ndarray] = {}
    run_integer(model, x, record)
    parted = [op.name for op, output in zip(graph.ops, outputs, strict=True) if (output != record[op.name]).any()]
    assert parted == []


def test_only_hard_swish_runs_in_float() -> None:
    graph = demo_subnet("4560")
    net, stats = random_net(graph)
    report = integer_op_report(write_int8(integer_model(net, graph, stats, QUANTIZER)))
    assert not set(report) & {"Conv", "FusedConv", "Add", "Mul", "Sigmoid", "GlobalAveragePool", "Relu", "Clip", "HardSigmoid"}
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
