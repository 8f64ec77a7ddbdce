"""Ops without weights: what the runtimes compute is known for every input, and settled scales make them one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from deploy.nets import one_op

from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.integer.arithmetic import SIGNED, TABLES, settle, table
from spaceevo.deploy.integer.model import MIDDLE, IntegerModel, QParams, gate_qparams
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.latency.runtimes.ort import load
from spaceevo.nn.elastic import Quantizer
from spaceevo.space.graph import INPUT, Op

CASES = 12
AFFINE, SYMMETRIC = Quantizer(), Quantizer(activations="symmetric")
Case = tuple[list[QParams], QParams]


def qparams(rng: np.random.Generator, scale: float, quantizer: Quantizer) -> QParams:
    return float(np.float32(scale)), MIDDLE if quantizer.symmetric else int(rng.integers(0, 256))


def random_case(kind: str, rng: np.random.Generator, quantizer: Quantizer = AFFINE) -> Case:
    """Scales and zero points of the inputs and of an output that holds most of what comes of them."""
    a, b = (qparams(rng, rng.uniform(0.005, 0.1), quantizer) for _ in range(2))
    if kind == "add":
        return [a, b], qparams(rng, rng.uniform(0.3, 1.2) * (a[0] + b[0]), quantizer)
    if kind == "mul":
        return [a, b], qparams(rng, rng.uniform(0.3, 1.0) * 100 * a[0] * b[0], quantizer)
    if kind == "mean":
        return [a], qparams(rng, a[0] * rng.uniform(0.3, 1.2), quantizer)
    return [a], gate_qparams(kind, quantizer)


def every_input(kind: str, scale: float, hw: int) -> np.ndarray:
    """Images with every input of the op, or for a mean with sums all over the range."""
    q = np.arange(256)
    if kind == "mean":
        rng = np.random.default_rng(0)
        pixels = np.clip(rng.integers(0, 256, (512, 1, 1, 1)) + rng.integers(-60, 61, (512, 1, hw, hw)), 0, 255)
        return (pixels * np.float32(scale)).astype(np.float32)
    pixels = np.stack(np.meshgrid(q, q, indexing="ij")) if kind in ("add", "mul") else q.reshape(1, 16, 16)
    return (pixels[None] * np.float32(scale)).astype(np.float32)


def runtime_tables(model: IntegerModel, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ort.record_ops(model, images)["y"], litert.record_ops(model, images)["y"]


def case_model(kind: str, case: Case, hw: int) -> tuple[IntegerModel, np.ndarray]:
    inputs, y = case
    model = one_op(kind, inputs, y, hw)
    images = every_input(kind, inputs[0][0], hw)
    scale, zero = model.qparams[INPUT]
    return model, images - np.float32(zero) * np.float32(scale)


@pytest.mark.parametrize(
    ("kind", "hw"), [("add", 256), ("mul", 256), ("hsigmoid", 16), ("mean", 4), ("mean", 14), ("mean", 28)]
)
def test_the_runtimes_roundings_are_known_for_every_input(kind: str, hw: int) -> None:
    """The imitations that scales are settled by, with scales as they come."""
    rng = np.random.default_rng(hw)
    for _ in range(CASES):
        case = random_case(kind, rng)
        model, images = case_model(kind, case, hw)
        op = model.graph.ops[-1]
        record: dict[str, np.ndarray] = {}
        run_integer(model, images, record)
        exact, onnxruntime, xnnpack = (form(op, *case) for form in TABLES[kind])
        index = record[INPUT].astype(int)
        chosen = index.sum((2, 3))[:, 0] if kind == "mean" else tuple(index[0])
        np.testing.assert_array_equal(record["y"].squeeze(), exact[chosen].squeeze())
        for given, form in zip(runtime_tables(model, images), (onnxruntime, xnnpack), strict=True):
            np.testing.assert_array_equal(given.squeeze(), form[chosen].squeeze())


@pytest.mark.parametrize("quantizer", [AFFINE, SYMMETRIC], ids=lambda q: q.activations)
@pytest.mark.parametrize("kind", ["add", "mul", "hsigmoid", "sigmoid", "mean"])
def test_with_settled_scales_both_runtimes_give_the_exact_integers_for_every_input(kind: str, quantizer: Quantizer) -> None:
    rng = np.random.default_rng(7)
    hw = {"add": 256, "mul": 256, "mean": 20}.get(kind, 16)
    moved = 0
    for _ in range(CASES):
        inputs, y = random_case(kind, rng, quantizer)
        op = one_op(kind, inputs, y, hw).graph.ops[-1]
        if kind == "sigmoid":  # its own scale is prescribed: what it reads is settled
            settled = settle(Op("x", "conv", (), 1, 1, hw, hw), [], inputs[0], quantizer, [op])
            moved += settled != inputs[0]
            inputs = [settled]
        else:
            settled = settle(op, inputs, y, quantizer)
            moved += settled != y
            assert settled[1] == y[1] and abs(settled[0] / y[0] - 1) < 2e-5
            y = settled
        model, images = case_model(kind, (inputs, y), hw)
        record: dict[str, np.ndarray] = {}
        run_integer(model, images, record)
        for given in runtime_tables(model, images):
            np.testing.assert_array_equal(given, record["y"])
    assert moved > 0 or kind == "mul" or (kind == "sigmoid" and quantizer.symmetric)  # of fewer steps fewer are ties


@pytest.mark.parametrize("kind", SIGNED)
def test_onnxruntime_s_roundings_of_int8_are_known_for_every_input(kind: str) -> None:
    """As on ARM, and on x86 where it is told not to make uint8 of them."""
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        case = random_case(kind, rng, SYMMETRIC)
        model, images = case_model(kind, case, 256 if kind == "add" else 16)
        proto = onnx.load_from_string(write_int8(model))
        proto.graph.output.append(onnx.helper.make_tensor_value_info("y.q", onnx.TensorProto.INT8, None))
        given = load(proto.SerializeToString()).run(["y.q"], {INPUT: images})[0].astype(int) + MIDDLE
        np.testing.assert_array_equal(given.reshape(-1), SIGNED[kind](model.graph.ops[-1], *case).reshape(-1))


def test_a_mean_over_a_large_map_is_settled_by_an_odd_number_of_sums_a_step() -> None:
    rng = np.random.default_rng(0)
    for hw in (40, 56, 112):
        inputs, y = random_case("mean", rng)
        op = one_op("mean", inputs, y, hw).graph.ops[-1]
        scale, zero = settle(op, inputs, y, AFFINE)
        exact, *others = (form(op, inputs, (scale, zero)) for form in TABLES["mean"])
        for other in others:
            np.testing.assert_array_equal(exact, other)
        assert abs(scale / y[0] - 1) < 1e-3


def test_a_tie_is_settled() -> None:
    """Equal scales make every odd sum a tie, which onnxruntime rounds to even and XNNPACK up."""
    inputs, y = [(0.5, 0), (0.5, 0)], (1.0, 0)
    op = one_op("add", inputs, y).graph.ops[-1]
    _, even, up = (form(op, inputs, y) for form in TABLES["add"])
    assert (even[0, 1], up[0, 1]) == (0, 1)
    scale, _ = settle(op, inputs, y, AFFINE)
    exact, *others = (form(op, inputs, (scale, 0)) for form in TABLES["add"])
    assert all((exact == other).all() for other in others)
    assert 0 < 1 - scale < 2e-5


@pytest.mark.parametrize(("quantizer", "least", "middle"), [(AFFINE, 0, 128), (SYMMETRIC, 128, 192)])
def test_gates_reach_their_ends(quantizer: Quantizer, least: int, middle: int) -> None:
    inputs = [(0.05, 128)]
    hard, soft = (
        table(one_op(kind, inputs, y).graph.ops[-1], tuple(inputs), y)
        for kind, y in ((kind, gate_qparams(kind, quantizer)) for kind in ("hsigmoid", "sigmoid"))
    )
    assert hard[0] == least and hard[-1] == 255 and soft[128] == middle
    assert (np.diff(hard.astype(int)) >= 0).all() and (np.diff(soft.astype(int)) >= 0).all()
