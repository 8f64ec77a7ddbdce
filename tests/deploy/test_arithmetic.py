"""Ops without weights: what the runtimes compute is known for every input, and settled scales make them one."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from deploy.every_input import AFFINE, HW, SYMMETRIC, case_model, imitated, random_case, reference, settled_case, tied_case
from deploy.nets import one_op

from spaceevo.deploy.integer.arithmetic import TABLES, table
from spaceevo.deploy.integer.model import IntegerModel, gate_qparams
from spaceevo.deploy.integer.settle import settle
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.latency.host import X86
from spaceevo.nn.elastic import Quantizer

CASES = 12
X86_64 = platform.machine() in X86
BOTH = pytest.mark.parametrize("quantizer", [AFFINE, SYMMETRIC], ids=lambda quantizer: quantizer.activations)


def runtime_tables(model: IntegerModel, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ort.record_ops(model, images)["y"], litert.record_ops(model, images)["y"]


@BOTH
@pytest.mark.parametrize(
    ("kind", "hw"), [("add", 256), ("mul", 256), ("hsigmoid", 16), ("mean", 4), ("mean", 14), ("mean", 28)]
)
def test_the_runtimes_roundings_are_known_for_every_input(kind: str, hw: int, quantizer: Quantizer) -> None:
    """The imitations that scales are settled by, with scales as they come and with such as make ties."""
    rng = np.random.default_rng(hw)
    tied = [] if kind == "mean" else [tied_case(kind, quantizer)]
    for case in [*tied, *(random_case(kind, rng, quantizer) for _ in range(CASES))]:
        model, images = case_model(kind, case, hw)
        exact, *forms = imitated(case, model, images)
        np.testing.assert_array_equal(reference(model, images), exact)
        for given, form in zip(runtime_tables(model, images), forms[:2] if X86_64 else forms[2:], strict=True):
            np.testing.assert_array_equal(given.ravel(), form)


@BOTH
@pytest.mark.parametrize("kind", ["add", "mul", "hsigmoid", "sigmoid", "mean"])
def test_with_settled_scales_both_runtimes_give_the_exact_integers_for_every_input(kind: str, quantizer: Quantizer) -> None:
    rng = np.random.default_rng(7)
    hw = HW.get(kind, 16)
    moved = 0
    for _ in range(CASES):
        given = random_case(kind, rng, quantizer)
        case = settled_case(kind, given, hw, quantizer)
        moved += case != given
        assert case[1][1] == given[1][1] and abs(case[1][0] / given[1][0] - 1) < 2e-5
        model, images = case_model(kind, case, hw)
        for integers in runtime_tables(model, images):
            np.testing.assert_array_equal(integers.ravel(), reference(model, images))
    assert moved > 0 or kind == "mul" or (kind == "sigmoid" and quantizer.symmetric)  # of fewer steps fewer are ties


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
    """Equal scales make every odd sum a tie, which onnxruntime rounds to even (on ARM away from zero) and XNNPACK up."""
    inputs, y = [(0.5, 0), (0.5, 0)], (1.0, 0)
    op = one_op("add", inputs, y).graph.ops[-1]
    _, even, up, away, _ = (form(op, inputs, y) for form in TABLES["add"])
    assert (even[0, 1], up[0, 1], away[0, 1]) == (0, 1, 1)
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
