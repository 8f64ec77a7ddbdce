"""LSQ+ fake quantization against the published formulas, written with plain ops and straight-through estimators."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spaceevo.nn.lsq import (
    SHARES,
    TOGETHER,
    TensorQuantizer,
    fake_quant_activation,
    fake_quant_weight,
    hold,
    init_weight_scale,
    least_squares_range,
    zero_point,
)
from spaceevo.nn.scheme import ACT_MAX, MIDDLE, Quantizer, clear_range, symmetric_range, weight_max

SHAPE = (2, 4, 3, 5)
SYMMETRIC = Quantizer(activations="symmetric")


def rounded(x: Tensor) -> Tensor:
    """Round half to even, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def reference(x: Tensor, scale: Tensor, zero: Tensor, qmin: int, qmax: int) -> Tensor:
    """``(clip(round(x / s) + z) - z) * s``, every round straight through."""
    zero = rounded(zero)
    q = rounded(x / scale) + zero
    clipped = torch.where(q < qmin, float(qmin), torch.where(q > qmax, float(qmax), q))
    return (clipped - zero) * scale


def quantized(x: Tensor, scale: Tensor, zero: Tensor, bits: int | None) -> Tensor:
    """An activation (``bits`` None) or a weight."""
    return fake_quant_activation(x, scale, zero) if bits is None else fake_quant_weight(x, scale, bits)


def away_from_ties(scale: float, low: int, high: int, seed: int) -> Tensor:
    """Values of ``[low, high]`` steps of ``scale``, none within a tenth of a step of where rounding changes."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randint(low, high + 1, SHAPE, generator=rng)
    return (steps + torch.rand(SHAPE, generator=rng, dtype=torch.float64) * 0.8 - 0.4).mul(scale).float()


def gradients(x: Tensor, scale: float, zero: float, bits: int | None, up: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Of input, scale and zero point: ours, and LSQ+'s in float64 with LSQ's gradient scale ``1 / sqrt(N qmax)``, N the
    elements of a weight or of one image."""
    qmin, qmax = (0, ACT_MAX) if bits is None else (-weight_max(bits), weight_max(bits))
    ours = [v.requires_grad_() for v in (x.clone(), torch.tensor(scale), torch.tensor(float(zero)))]
    got = list(torch.autograd.grad(quantized(*ours, bits), ours, up, allow_unused=True))
    exact = [v.detach().double().requires_grad_() for v in ours]
    want = list(torch.autograd.grad(reference(*exact, qmin, qmax), exact, up.double()))
    factor = 1 / math.sqrt(x.numel() / (len(x) if bits is None else 1) * qmax)
    return got, [want[0], want[1] * factor, want[2] * factor]


scales = st.floats(-4, 2).map(lambda e: 10**e)
zero_points = st.integers(0, ACT_MAX)


@settings(max_examples=40, deadline=None)
@given(scales, zero_points, st.sampled_from([None, 8, 7]), st.integers(0, 99))
def test_forward_rounds_to_the_grid_and_clips(scale: float, zero: int, bits: int | None, seed: int) -> None:
    x = away_from_ties(scale, -300, 300, seed)
    y = quantized(x, torch.tensor(scale), torch.tensor(float(zero)), bits)
    qmin, qmax = (0 - zero, ACT_MAX - zero) if bits is None else (-weight_max(bits), weight_max(bits))
    integers = (x.double() / torch.tensor(scale).double()).round().clamp(qmin, qmax)
    torch.testing.assert_close(y.double(), integers * torch.tensor(scale).double(), rtol=1e-6, atol=0)


def test_ties_round_to_even() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, 3.5, -0.5, -1.5])
    assert fake_quant_activation(x, torch.tensor(1.0), torch.tensor(3.0)).tolist() == [0, 2, 2, 4, 0, -2]
    assert fake_quant_weight(x, torch.tensor(1.0), 8).tolist() == [0, 2, 2, 4, 0, -2]


@settings(max_examples=60, deadline=None)
@given(scales, st.floats(-100, 400))
def test_zero_point_is_an_integer_that_stands_for_exactly_zero(scale: float, zero: float) -> None:
    whole = float(zero_point(torch.tensor(zero)))
    assert whole == int(whole) and 0 <= whole <= ACT_MAX
    assert abs(whole - min(max(zero, 0), ACT_MAX)) <= 0.5
    assert fake_quant_activation(torch.zeros(3), torch.tensor(scale), torch.tensor(zero)).abs().max() == 0


@settings(max_examples=30, deadline=None)
@given(scales, st.sampled_from([7, 8]), st.integers(0, 99))
def test_weight_gradients_are_lsq(scale: float, bits: int, seed: int) -> None:
    w = away_from_ties(scale, -200, 200, seed)
    got, want = gradients(w, scale, 0.0, bits, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    assert got[2] is None  # symmetric: no zero point to learn
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(scales, st.floats(0, 200.4), st.integers(0, 99))
def test_activation_gradients_are_lsq_plus_inside_the_range(scale: float, zero: float, seed: int) -> None:
    whole = round(zero)
    x = away_from_ties(scale, -whole, ACT_MAX - whole, seed)
    got, want = gradients(x, scale, zero, None, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    assert (got[0] != 0).all()
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)
    assert abs(float(got[2])) < 1e-5 and float(want[2]) == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(scales, st.integers(0, 99))
def test_activation_gradients_are_lsq_for_a_range_from_zero(scale: float, seed: int) -> None:
    """A fused activation's tensor: zero point 0, clipped above (and below, where a value is negative)."""
    x = away_from_ties(scale, -50, 400, seed)
    got, want = gradients(x, scale, 0.0, None, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(scales, st.integers(5, 200), st.integers(0, 99))
def test_activation_gradients_are_lsq_plus_where_clipped(scale: float, zero: int, seed: int) -> None:
    """In a clipped value the scale's gradient is the integer that it is clipped to, less the zero point, and the zero
    point's is minus the scale."""
    x = away_from_ties(scale, -300, 400, seed)
    up = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1))
    got, want = gradients(x, scale, zero, None, up)
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[2].double(), want[2], rtol=1e-3, atol=1e-4 * scale)


@settings(max_examples=30, deadline=None)
@given(scales, st.booleans(), st.integers(0, 99))
def test_symmetric_activations_are_lsq(scale: float, from_zero: bool, seed: int) -> None:
    """LSQ's own case: integers of -128 to 127, or of 0 to 127 behind a ReLU, and nothing to learn but the scale."""
    x = away_from_ties(scale, -200, 200, seed).requires_grad_()
    up = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1))
    step = torch.tensor(scale, requires_grad=True)
    y = hold(x, step, torch.tensor(float(MIDDLE)), SYMMETRIC, from_zero)
    leaves = [leaf.detach().double().requires_grad_() for leaf in (x, step)]
    exact = reference(*leaves, torch.tensor(0.0), 0 if from_zero else -128, 127)
    torch.testing.assert_close(y.double(), exact, rtol=1e-6, atol=0)
    got, want = torch.autograd.grad(y, [x, step], up), torch.autograd.grad(exact, leaves, up.double())
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1] / math.sqrt(x[0].numel() * 127), rtol=1e-3, atol=1e-3)


def test_values_out_of_range_pass_no_gradient() -> None:
    x = torch.tensor([-100.0, -1.0, 0.0, 100.0, 200.0, 400.0], requires_grad=True)
    fake_quant_activation(x, torch.tensor(1.0), torch.tensor(10.0)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    w = torch.tensor([-128.0, -127.0, 0.0, 127.0, 128.0], requires_grad=True)
    fake_quant_weight(w, torch.tensor(1.0), 8).sum().backward()
    assert w.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_changes_nothing(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, up = torch.randn(SHAPE), torch.randn(SHAPE)
    want = gradients(x, 0.02, 50.0, None, up)[0]
    laid_out = x.to(memory_format=memory_format)
    for upstream in (up, up.contiguous(memory_format=torch.channels_last)):
        for got, expected in zip(gradients(laid_out, 0.02, 50.0, None, upstream)[0], want, strict=True):
            torch.testing.assert_close(got, expected)


def test_the_scale_gradient_of_a_large_tensor_is_not_lost_in_rounding() -> None:
    """2 million elements whose gradients have a common sign, as a feature map's often have."""
    torch.manual_seed(0)
    x = torch.rand(32, 64, 28, 28)
    up = torch.rand_like(x) + 0.5
    got, want = gradients(x, 1 / 255, 0.0, None, up)
    noise = 0.29 * up.square().sum().sqrt() / math.sqrt(x.numel() * ACT_MAX)  # what rounding errors alone amount to
    assert abs(float(got[1].double() - want[1])) < 0.05 * float(noise)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_kernels_are_the_plain_operations(threads: int) -> None:
    """Where the CPU's kernels are not: the same forward, and the same gradients but for the order of sums."""
    x = torch.randn(40, 64, 11, 11).to(memory_format=torch.channels_last)  # large enough for two threads
    assert x.numel() > TOGETHER
    up, scale, zero = torch.randn_like(x), torch.tensor(0.013), torch.tensor(100.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    leaves = [t.requires_grad_() for t in (x, scale, zero)]
    y = fake_quant_activation(*leaves)
    got = torch.autograd.grad(y, leaves, up)
    torch.set_num_threads(before)
    with torch.no_grad():
        exact = (((x / scale).round() + zero).clamp(0, ACT_MAX) - zero) * scale
    assert torch.equal(y, exact) and y.is_contiguous(memory_format=torch.channels_last)
    want = torch.autograd.grad(reference(*leaves, 0, ACT_MAX), leaves, up)
    factor = (x[0].numel() * ACT_MAX) ** -0.5
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1], want[1] * factor, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[2], want[2] * factor, rtol=1e-3, atol=1e-3)


def test_the_same_tensor_gives_the_same_sums_wherever_it_lies_in_memory() -> None:
    x, up = torch.rand(8, 24, 4, 4).requires_grad_(), torch.randn(8, 24, 4, 4)
    scale = torch.tensor(0.004, requires_grad=True)
    found = set()
    kept = []
    for size in range(60):
        kept.append(torch.rand(100 * size))
        found.add(torch.autograd.grad(fake_quant_activation(x, scale, torch.tensor(0.0)), scale, up)[0].item())
    assert len(found) == 1


@torch.no_grad()
def test_fake_quantization_stays_in_float32_under_autocast() -> None:
    x = torch.randn(4, 3, 9, 9, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = fake_quant_activation(x, torch.tensor(0.017), torch.tensor(130.0))
        w = fake_quant_weight(x, torch.tensor(0.017), 8)
    for values in (y, w):
        assert values.dtype == torch.float32
        steps = values.double() / torch.tensor(0.017).double()
        assert (steps - steps.round()).abs().max() < 1e-4


@pytest.mark.parametrize("pushed", [-0.5, -0.01, 0.0, 1e-7])
def test_a_scale_stays_positive_and_comes_back_from_beyond_zero(pushed: float) -> None:
    """An update that pushes a scale below zero leaves a small one; the clipped values then pull it up again."""
    torch.manual_seed(0)
    quantizer, x = TensorQuantizer(from_zero=True), torch.rand(16, 256) * 4
    quantizer.set_range(0.0, 4.0)
    with torch.no_grad():
        quantizer.scale.ratio.fill_(pushed)
    assert float(quantizer()[0].detach()) > 0
    optimizer = torch.optim.SGD(quantizer.parameters(), 0.003)
    for _ in range(500):
        optimizer.zero_grad()
        (fake_quant_activation(x, *quantizer()) - x).square().mean().backward()
        optimizer.step()
    assert float(quantizer()[0].detach()) == pytest.approx(4 / ACT_MAX, rel=0.2)


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("factor", [0.3, 0.6])
def test_a_symmetric_scale_learns_the_range_and_no_zero_point(factor: float, from_zero: bool) -> None:
    torch.manual_seed(0)
    quantizer = TensorQuantizer(from_zero)
    x = torch.rand(16, 256) * (4 if from_zero else 8) - (0 if from_zero else 4)
    quantizer.set_range(-4 * factor, 4 * factor, symmetric=True)
    before = float(quantizer(symmetric=True)[0].detach())
    assert before == pytest.approx(4 * factor / 127, rel=1e-6)
    optimizer = torch.optim.SGD(quantizer.parameters(), 0.003)
    for _ in range(400):
        optimizer.zero_grad()
        (hold(x, *quantizer(symmetric=True), SYMMETRIC, from_zero) - x).square().mean().backward()
        optimizer.step()
    scale, zero = quantizer(symmetric=True)
    assert float(zero) == MIDDLE and (quantizer.zero is None or quantizer.zero.grad is None)
    assert abs(float(scale.detach()) - 4 / 127) < 0.5 * abs(before - 4 / 127)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_scale_and_zero_point_move_by_a_share_of_the_range_whatever_its_size(size: float) -> None:
    """The same tensor in other units: the same relative updates."""
    torch.manual_seed(0)
    x, up = torch.randn(8, 100), torch.randn(8, 100)
    moved = []
    for unit in (1.0, size):
        quantizer = TensorQuantizer()
        quantizer.set_range(-2 * unit, 1.5 * unit)
        (fake_quant_activation(x * unit, *quantizer()) * up / unit).sum().backward()
        assert quantizer.zero is not None and quantizer.zero.grad is not None and quantizer.scale.ratio.grad is not None
        moved.append((float(quantizer.scale.ratio.grad), float(quantizer.zero.grad)))
    assert moved[1] == pytest.approx(moved[0], rel=1e-2)


@pytest.mark.parametrize("bits", [4, 8])
def test_initial_weight_scale_has_about_the_least_squared_error(bits: int) -> None:
    torch.manual_seed(0)
    w = torch.randn(64, 64, 3, 3) * 0.2 + 0.1

    def error(scale: Tensor) -> float:
        return float((fake_quant_weight(w, scale, bits) - w).square().mean())

    scale = init_weight_scale(w, bits)
    widest = w.abs().max() / weight_max(bits)
    assert error(scale) <= 1.1 * min(error(widest * share) for share in torch.linspace(0.1, 1, 91))
    assert float(init_weight_scale(-w, bits)) == pytest.approx(float(scale))
    assert bits == 8 or error(scale) < 0.7 * error(widest)  # with few steps, an outlier is not worth them


def test_initial_symmetric_range_has_about_the_least_squared_error_and_both_ends_alike() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(4000), torch.tensor([-40.0, 60.0])])
    low, high = least_squares_range(values, -40.0, 60.0, symmetric=True)
    assert low * 127 == pytest.approx(-high * 128)
    quantizer = TensorQuantizer()

    def error(high: float) -> float:
        quantizer.set_range(-high, high, symmetric=True)
        with torch.no_grad():
            return float((hold(values[None], *quantizer(symmetric=True), SYMMETRIC) - values).square().mean())

    assert error(high) <= 1.1 * min(error(share * 60) for share in SHARES.tolist())
    assert quantizer.range() == pytest.approx(symmetric_range(-60, 60))
    assert symmetric_range(0, 127) == (-128, 127) and symmetric_range(-128, 0) == (-128, 127)


@given(st.floats(0, 1), st.floats(0.05, 2))
def test_no_pixel_is_near_a_tie_of_a_symmetric_input(mean: float, std: float) -> None:
    low, high = -mean / std, (1 - mean) / std
    least, most = clear_range(low, high)
    assert least <= low and most >= high and most <= 1.02 * symmetric_range(low, high)[1]
    steps = (torch.arange(256, dtype=torch.float64) / 255 - mean) / std / (most / 127)
    assert float((steps - steps.floor() - 0.5).abs().min()) > 5e-4
    assert clear_range(least, most) == pytest.approx((least, most))  # of its own 256 steps none is


def test_initial_range_has_about_the_least_squared_error() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(4000), torch.tensor([-40.0, 60.0])])  # two outliers
    low, high = least_squares_range(values, -40.0, 60.0)
    quantizer = TensorQuantizer()

    def error(low: float, high: float) -> float:
        quantizer.set_range(low, high)
        with torch.no_grad():
            return float((fake_quant_activation(values[None], *quantizer()) - values).square().mean())

    assert -40 <= low <= 0 <= high <= 60
    assert error(low, high) <= 1.1 * min(error(a * -40, b * 60) for a in SHARES.tolist() for b in SHARES.tolist())
