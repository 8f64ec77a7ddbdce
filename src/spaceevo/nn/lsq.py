"""LSQ+ fake quantization (Bhalgat et al., CVPRW 2020; LSQ: Esser et al., ICLR 2020).

Activations are asymmetric with a learned scale and a learned offset (the real value of the lowest integer), whose
zero point is rounded to an integer with a straight-through gradient; weights are symmetric. A few vectorized passes
forward, and gradients written so that the backward needs a few passes, two dot products and a sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ACT_MAX = 255
MIN_SCALE = 1e-6


class _FakeQuant(torch.autograd.Function):
    """``y = (clip(round(x / s) + z, qmin, qmax) - z) * s``, rounding half to even, with ``z = zero_point(s, offset)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, qmin: int, qmax: int) -> Tensor:
        scaled, zero = torch.div(x, scale), zero_point(scale, offset)
        integer = scaled.round().add_(zero).clamp_(qmin, qmax).sub_(zero)
        ctx.save_for_backward(scaled, integer, zero)
        ctx.range = qmin, qmax
        return integer * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        scaled, integer, zero = ctx.saved_tensors
        qmin, qmax = ctx.range
        grad = grad.contiguous(memory_format=torch.channels_last) if _is_channels_last(scaled) else grad.contiguous()
        # Hardtanh's backward pass: the gradient where the integer lies within the range, 0 elsewhere.
        grad_x = torch.ops.aten.hardtanh_backward(grad, scaled + zero, qmin - 0.5, qmax + 0.5)
        # With y = q s + offset: d y / d s is (y - x) / s inside the range and q where clipped; d y / d offset is 0 and 1.
        clipped = grad - grad_x
        grad_offset = clipped.sum()
        grad_scale = torch.dot(_flat(grad_x), _flat(integer - scaled)) + torch.dot(_flat(clipped), _flat(integer))
        grad_scale = grad_scale + zero * grad_offset
        gradient_scale = (scaled.numel() * qmax) ** -0.5
        return grad_x, grad_scale * gradient_scale, grad_offset * gradient_scale, None, None


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor) -> Tensor:
    """All elements in memory order, without a copy."""
    return x.permute(0, 2, 3, 1).reshape(-1) if _is_channels_last(x) else x.reshape(-1)


def zero_point(scale: Tensor, offset: Tensor) -> Tensor:
    """The integer that stands for 0 when the lowest integer stands for about ``offset`` (at most 0)."""
    return (-offset / scale).detach().round().clamp(0, ACT_MAX)


def fake_quant_activation(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Per tensor, 8 bits, unsigned: integers q in 0..255 of real value ``(q - zero_point) * scale``."""
    return _FakeQuant.apply(x, scale.clamp(min=MIN_SCALE), offset, 0, ACT_MAX)


def fake_quant_weight(w: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Symmetric and narrow (-127..127 at 8 bits), so that a negative BatchNorm gain may flip the sign exactly."""
    top = weight_max(bits)
    return _FakeQuant.apply(w.contiguous(), scale.clamp(min=MIN_SCALE), torch.zeros_like(scale), -top, top)


def weight_max(bits: int) -> int:
    """The largest weight integer of the narrow range."""
    return 2 ** (bits - 1) - 1


def init_weight_scale(w: Tensor, bits: int) -> Tensor:
    """LSQ+'s initial weight scale: three standard deviations about the mean fill the range."""
    std, mean = torch.std_mean(w.detach(), correction=0)
    return torch.maximum((mean - 3 * std).abs(), (mean + 3 * std).abs()) / weight_max(bits)
