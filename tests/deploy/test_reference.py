"""The integer reference by itself, and the integer model as a file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deploy.nets import QUANTIZER, demo_subnet, random_net, smooth_images, trained_net

from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel, load_integer, save_integer
from spaceevo.deploy.integer.reference import run_integer, run_op
from spaceevo.errors import UserError
from spaceevo.space.graph import INPUT, PADDINGS, Graph, Op, Tensor


def weighted(op: Op, rng: np.random.Generator, padding: str, bias: int) -> IntegerModel:
    weights = rng.integers(-127, 128, op.weight_shape, dtype=np.int8)
    scales = rng.uniform(0.5, 1.5, op.cout).astype(np.float32) / (op.weight_shape[1] * op.kernel**2 * 127) ** 0.5 / 8
    biases = rng.integers(-bias, bias + 1, op.cout, dtype=np.int32)
    qparams = {INPUT: (0.02, 100), op.name: (0.11, 30)}
    graph = Graph(Tensor(INPUT, op.cin, op.in_hw), [op])
    return IntegerModel(graph, {op.name: weights}, {op.name: scales}, {op.name: biases}, qparams, padding)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    ("kind", "cin", "kernel", "stride", "hw", "bias"),
    [
        ("conv", 3, 3, 2, 12, 1000),
        ("conv", 5, 1, 2, 9, 1000),
        ("conv", 300, 7, 1, 8, 1000),  # sums that float32 does not hold
        ("depthwise", 6, 5, 2, 11, 1000),
        ("depthwise", 6, 3, 1, 10, 2**30),
    ],
)
def test_convolutions_round_the_exact_sums_once(
    kind: str, cin: int, kernel: int, stride: int, hw: int, bias: int, padding: str
) -> None:
    rng = np.random.default_rng(0)
    cout = cin if kind == "depthwise" else 16
    op = Op("y", kind, (INPUT,), cin, cout, hw, -(-hw // stride), kernel, stride, bias=True)
    model = weighted(op, rng, padding, bias)
    x = rng.integers(0, 256, (3, cin, hw, hw), dtype=np.uint8)
    before, after = op.pads(padding)
    values = F.pad(torch.from_numpy(x.astype(np.float64) - 100), (before, after, before, after))
    groups = cin if kind == "depthwise" else 1
    weights, biases = (torch.from_numpy(a["y"].astype(np.float64)) for a in (model.weights, model.biases))
    total = F.conv2d(values, weights, biases, stride, groups=groups).numpy()
    factor = np.float32(0.02) * model.weight_scales["y"] / np.float32(0.11)
    expected = np.clip(np.rint(total.astype(np.float32) * factor[:, None, None]) + 30, 0, 255)
    np.testing.assert_array_equal(run_op(model, op, [x]), expected)
    assert len(np.unique(expected)) > (20 if bias == 1000 else 1)


def test_pads_of_both_kinds_keep_the_output_s_size_and_differ_at_stride_two_of_an_even_map() -> None:
    for kernel, stride, hw in [(1, 2, 8), (3, 1, 7), (3, 2, 7), (3, 2, 8), (5, 2, 8), (7, 2, 4)]:
        op = Op("y", "conv", (INPUT,), 1, 1, hw, -(-hw // stride), kernel, stride)
        for padding in PADDINGS:
            assert (hw + sum(op.pads(padding)) - kernel) // stride + 1 == op.out_hw
        assert (op.pads("same") == op.pads("symmetric")) == (kernel == 1 or stride == 1 or hw % 2 == 1)
    assert Op("y", "conv", (INPUT,), 1, 1, 8, 4, 3, 2).pads("same") == (0, 1)


def test_the_reference_gives_the_same_in_one_batch_and_in_many() -> None:
    graph = demo_subnet("0123")
    net, stats = random_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    x = smooth_images(150, graph, seed=1).numpy()
    record: dict[str, np.ndarray] = {}
    together = run_integer(model, x, record)
    np.testing.assert_array_equal(together, np.concatenate([run_integer(model, x[i : i + 1]) for i in range(len(x))]))
    assert set(record) == {INPUT, *(op.name for op in model.graph.ops)}
    assert all(values.dtype == np.uint8 and len(values) == len(x) for values in record.values())


def test_an_integer_model_reads_back(tmp_path: Path) -> None:
    graph = demo_subnet("2406")
    net, stats = trained_net(graph, padding="same")
    model = integer_model(net, graph, stats, QUANTIZER)
    save_integer(tmp_path / "model.safetensors", model)
    again = load_integer(tmp_path / "model.safetensors")
    assert (again.graph, again.qparams, again.padding) == (model.graph, model.qparams, "same")
    x = smooth_images(10, graph).numpy()
    np.testing.assert_array_equal(run_integer(again, x), run_integer(model, x))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    net, stats = random_net(graph := demo_subnet("0000"))
    model = integer_model(net, graph, stats, QUANTIZER)
    for number in range(8):
        save_integer(tmp_path / f"{number}.safetensors", model)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_weights_are_saved_by_index_however_they_lie_in_memory(tmp_path: Path) -> None:
    """Those of a supernet in channels-last memory do not lie row by row."""
    graph = demo_subnet("0123")
    net, stats = trained_net(graph)
    model = integer_model(net, graph, stats, QUANTIZER)
    weights = {name: np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for name, w in model.weights.items()}
    save_integer(tmp_path / "model.safetensors", replace(model, weights=weights))
    again = load_integer(tmp_path / "model.safetensors")
    assert all((again.weights[name] == w).all() for name, w in model.weights.items())


def test_a_file_that_is_no_integer_model_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    graph = demo_subnet("0000")
    net, stats = random_net(graph)
    path = tmp_path / "model.safetensors"
    save_integer(path, integer_model(net, graph, stats, QUANTIZER))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors: truncated or not an integer model"):
            load_integer(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(UserError, match="no spaceevo integer model"):
        load_integer(path)
    with pytest.raises(UserError, match=r"absent\.safetensors: No such file"):
        load_integer(tmp_path / "absent.safetensors")


def test_the_reference_and_both_runtimes_need_no_torch() -> None:
    modules = ", ".join(
        f"spaceevo.deploy.{name}" for name in ("integer.reference", "runtimes.ort", "runtimes.litert", "claims.parity")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
