"""LSQ+ fake quantization against the published formulas, written with plain ops and straight-through estimators."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spaceevo.nn.lsq import (
    ACT_MAX,
    MIN_SCALE,
    fake_quant_activation,
    fake_quant_weight,
    init_weight_scale,
    weight_max,
    zero_point,
)

SHAPE = (2, 4, 3, 5)


def rounded(x: Tensor) -> Tensor:
    """Round half to even, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def reference(x: Tensor, scale: Tensor, offset: Tensor, qmin: int, qmax: int) -> Tensor:
    """``(clip(round(x / s) + z) - z) * s`` with ``z = round(-offset / s)``, every round straight through."""
    zero = rounded(-offset / scale)
    q = rounded(x / scale) + zero
    clipped = torch.where(q < qmin, float(qmin), torch.where(q > qmax, float(qmax), q))
    return (clipped - zero) * scale


def quantized(x: Tensor, scale: Tensor, offset: Tensor, bits: int | None) -> Tensor:
    """An activation (``bits`` None) or a weight."""
    return fake_quant_activation(x, scale, offset) if bits is None else fake_quant_weight(x, scale, bits)


def away_from_ties(scale: float, low: int, high: int, seed: int) -> Tensor:
    """Values of ``[low, high]`` steps of ``scale``, none within a tenth of a step of where rounding changes."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randint(low, high + 1, SHAPE, generator=rng)
    return (steps + torch.rand(SHAPE, generator=rng, dtype=torch.float64) * 0.8 - 0.4).mul(scale).float()


def gradients(x: Tensor, scale: float, offset: float, bits: int | None, up: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Of input, scale and offset: ours, and LSQ+'s in float64 with LSQ's gradient scale ``1 / sqrt(N qmax)``."""
    qmin, qmax = (0, ACT_MAX) if bits is None else (-weight_max(bits), weight_max(bits))
    ours = [v.requires_grad_() for v in (x.clone(), torch.tensor(scale), torch.tensor(offset))]
    got = list(torch.autograd.grad(quantized(*ours, bits), ours, up, allow_unused=True))
    exact = [v.detach().double().requires_grad_() for v in ours]
    want = list(torch.autograd.grad(reference(*exact, qmin, qmax), exact, up.double()))
    factor = 1 / math.sqrt(x.numel() * qmax)
    return got, [want[0], want[1] * factor, want[2] * factor]


scales = st.floats(-4, 2).map(lambda e: 10**e)
zero_points = st.integers(0, ACT_MAX)


@settings(max_examples=40, deadline=None)
@given(scales, zero_points, st.sampled_from([None, 8, 7]), st.integers(0, 99))
def test_forward_rounds_to_the_grid_and_clips(scale: float, zero: int, bits: int | None, seed: int) -> None:
    x = away_from_ties(scale, -300, 300, seed)
    offset = -zero * scale if bits is None else 0.0
    y = quantized(x, torch.tensor(scale), torch.tensor(offset), bits)
    qmin, qmax = (0 - zero, ACT_MAX - zero) if bits is None else (-weight_max(bits), weight_max(bits))
    integers = (x.double() / torch.tensor(scale).double()).round().clamp(qmin, qmax)
    torch.testing.assert_close(y.double(), integers * torch.tensor(scale).double(), rtol=1e-6, atol=0)


def test_ties_round_to_even() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, 3.5, -0.5, -1.5])
    assert fake_quant_activation(x, torch.tensor(1.0), torch.tensor(-3.0)).tolist() == [0, 2, 2, 4, 0, -2]
    assert fake_quant_weight(x, torch.tensor(1.0), 8).tolist() == [0, 2, 2, 4, 0, -2]


@settings(max_examples=60, deadline=None)
@given(scales, st.floats(-400, 100))
def test_zero_point_is_an_integer_that_stands_for_exactly_zero(scale: float, steps: float) -> None:
    s, offset = torch.tensor(scale), torch.tensor(steps * scale)
    zero = float(zero_point(s, offset))
    assert zero == int(zero) and 0 <= zero <= ACT_MAX
    assert abs(zero - min(max(-steps, 0), ACT_MAX)) <= 0.5 + 1e-3
    assert fake_quant_activation(torch.zeros(3), s, offset).abs().max() == 0


@settings(max_examples=30, deadline=None)
@given(scales, st.sampled_from([7, 8]), st.integers(0, 99))
def test_weight_gradients_are_lsq(scale: float, bits: int, seed: int) -> None:
    w = away_from_ties(scale, -200, 200, seed)
    got, want = gradients(w, scale, 0.0, bits, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    assert got[2] is None  # symmetric: no offset to learn
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(scales, st.floats(-200.4, 0), st.integers(0, 99))
def test_activation_gradients_are_lsq_plus_inside_the_range(scale: float, steps: float, seed: int) -> None:
    zero = round(-steps)
    x = away_from_ties(scale, -zero, ACT_MAX - zero, seed)
    got, want = gradients(x, scale, steps * scale, None, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    assert (got[0] != 0).all()
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)
    assert abs(float(got[2])) < 1e-5 and float(want[2]) == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(scales, st.integers(0, 99))
def test_activation_gradients_are_lsq_for_a_range_from_zero(scale: float, seed: int) -> None:
    """A fused activation's tensor: no offset, clipped above (and below, where a value is negative)."""
    x = away_from_ties(scale, -50, 400, seed)
    got, want = gradients(x, scale, 0.0, None, torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1)))
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(scales, st.integers(5, 200), st.integers(0, 99))
def test_activation_gradients_are_lsq_plus_where_clipped(scale: float, zero: int, seed: int) -> None:
    """LSQ+: in a clipped value the scale's gradient is 0 at the lowest integer and 255 at the
    highest, whatever the offset is, and the offset's gradient is 1."""
    x = away_from_ties(scale, -300, 400, seed)
    up = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1))
    got, want = gradients(x, scale, -zero * scale, None, up)
    torch.testing.assert_close(got[0].double(), want[0])
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[2].double(), want[2], rtol=1e-4, atol=1e-5)


def test_values_out_of_range_pass_no_gradient() -> None:
    x = torch.tensor([-100.0, -1.0, 0.0, 100.0, 200.0, 400.0], requires_grad=True)
    fake_quant_activation(x, torch.tensor(1.0), torch.tensor(-10.0)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    w = torch.tensor([-128.0, -127.0, 0.0, 127.0, 128.0], requires_grad=True)
    fake_quant_weight(w, torch.tensor(1.0), 8).sum().backward()
    assert w.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_changes_nothing(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x, up = torch.randn(SHAPE), torch.randn(SHAPE)
    want = gradients(x, 0.02, -1.0, None, up)[0]
    laid_out = x.to(memory_format=memory_format)
    for upstream in (up, up.contiguous(memory_format=torch.channels_last)):
        for got, expected in zip(gradients(laid_out, 0.02, -1.0, None, upstream)[0], want, strict=True):
            torch.testing.assert_close(got, expected)


def test_the_scale_gradient_of_a_large_tensor_is_not_lost_in_rounding() -> None:
    """2 million elements whose gradients have a common sign, as a feature map's often have."""
    torch.manual_seed(0)
    x = torch.rand(32, 64, 28, 28)
    up = torch.rand_like(x) + 0.5
    got, want = gradients(x, 1 / 255, 0.0, None, up)
    noise = 0.29 * up.square().sum().sqrt() / math.sqrt(x.numel() * ACT_MAX)  # what rounding errors alone amount to
    assert abs(float(got[1].double() - want[1])) < 0.05 * float(noise)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-12])
def test_a_scale_at_or_below_zero_acts_as_the_least_scale(scale: float) -> None:
    x = torch.tensor([1.0, 0.0, -1.0])
    y = fake_quant_weight(x, torch.tensor(scale), 8)
    torch.testing.assert_close(y, torch.tensor([127.0, 0.0, -127.0]) * MIN_SCALE)


@pytest.mark.parametrize(("bits", "top"), [(7, 63), (8, 127)])
def test_initial_weight_scale_fills_the_range_with_three_deviations(bits: int, top: int) -> None:
    assert weight_max(bits) == top
    torch.manual_seed(0)
    w = torch.randn(64, 64, 3, 3) * 0.2 + 0.1
    scale = init_weight_scale(w, bits)
    assert float(scale) * top == pytest.approx(0.1 + 3 * 0.2, rel=0.02)
    assert float(init_weight_scale(-w, bits)) == pytest.approx(float(scale))
    error = (fake_quant_weight(w, scale, bits) - w).square().mean().sqrt()
    assert error < 0.05 * w.std()
