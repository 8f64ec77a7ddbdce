"""LSQ+ fake quantization (Bhalgat et al., CVPRW 2020; LSQ: Esser et al., ICLR 2020).

Activations are asymmetric with a learned scale and a learned zero point, rounded to an integer with a straight-through
gradient; or, where a device wants them so (:mod:`spaceevo.nn.scheme`), symmetric with a learned scale, as weights are.
``Scale`` and ``TensorQuantizer`` hold what is learned, in units in which one rate suits all of a network's parameters.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaceevo.nn.scheme import ACT_MAX, MIDDLE, Quantizer, symmetric_range, weight_max

MIN_SCALE = 1e-6
USUAL = 6.0  # the range of an activation, in units of a BatchNorm's deviation
TOGETHER = 1 << 18  # elements from which on threads share a tensor
#: Of a range's ends, what least squares tries: these shares of the extremes (LSQ+ section 3.2 minimizes the same error).
SHARES = torch.linspace(0.2, 1.0, 33)
SAMPLE = 1 << 13  # values that a range is fitted to


class _FakeQuant(torch.autograd.Function):
    """``y = (clip(round(x / s) + z, low, high) - z) * s``, rounding half to even; ``z``, a whole number, and ``s`` positive.

    The gradients of ``s`` and ``z`` are LSQ+'s, times ``1 / sqrt(share)``: LSQ's share is the number of elements times the
    greatest integer's distance from ``z``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, share: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last) if _is_channels_last(x) else x.contiguous()
        ctx.save_for_backward(x, scale, zero)
        ctx.settings = low, high, share
        if x.device.type != "cpu":
            return ((x / scale).round_().add_(zero).clamp_(low, high).sub_(zero)).mul_(scale)
        y = torch.empty_like(x)
        _compiled("forward", (x,), (scale.item(), zero.item(), low, high), y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        x, scale, zero = ctx.saved_tensors
        low, high, share = ctx.settings
        grad = grad.contiguous(memory_format=torch.channels_last) if _is_channels_last(x) else grad.contiguous()
        if x.device.type == "cpu":
            grad_x = torch.empty_like(x)
            sums = _compiled("backward", (grad, x), (scale.item(), zero.item(), low, high), grad_x)
            of_scale, of_clipped = (scale.new_tensor(sum(part)) for part in zip(*sums, strict=True))
        else:
            steps = x / scale
            rounded = steps.round() + zero
            integer = rounded.clamp(low, high)
            inside = integer == rounded
            grad_x = torch.where(inside, grad, 0)
            of_scale = (grad * (integer - zero - torch.where(inside, steps, 0))).sum()
            of_clipped = (grad - grad_x).sum()
        factor = share**-0.5
        return grad_x, of_scale * factor, -scale * of_clipped * factor, None, None, None


def _compiled(kernel: str, reads: tuple[Tensor, ...], settings: tuple[float, ...], out: Tensor) -> list[Any]:
    """``lsq_kernels.<kernel>`` over tensors of one memory layout, on as many threads as torch has; what each part gives."""
    from spaceevo.nn import lsq_kernels

    run, numbers = getattr(lsq_kernels, kernel), [np.float32(value) for value in settings]
    flat = [_flat(t).numpy() for t in (*reads, out)]
    threads = torch.get_num_threads() if out.numel() >= TOGETHER else 1
    if threads == 1:
        return [run(*flat[:-1], *numbers, flat[-1])]
    parts = [[*p[:-1], *numbers, p[-1]] for p in zip(*(np.array_split(values, threads) for values in flat), strict=True)]
    return list(_pool(threads).map(lambda part: run(*part), parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor) -> Tensor:
    """All elements in memory order, without a copy."""
    return (x.permute(0, 2, 3, 1) if _is_channels_last(x) else x).reshape(-1).detach()


def fake_quant_activation(x: Tensor, scale: Tensor, zero: Tensor, low: int = 0, levels: int = ACT_MAX) -> Tensor:
    """Per tensor ``[B, ...]``, 8 bits, unsigned: integers q in ``low``..255 of real value ``(q - zero_point(zero)) * scale``.
    ``levels``: LSQ's greatest integer, 255, or in a symmetric tensor 127.

    In float32 whatever the autocast: a grid of 256 steps has no room in bfloat16."""
    rounded = zero + (zero_point(zero) - zero).detach()
    return _FakeQuant.apply(x.float(), scale, rounded, low, ACT_MAX, max(1, x.numel() // len(x)) * levels)


def hold(x: Tensor, scale: Tensor, zero: Tensor, quantizer: Quantizer, from_zero: bool = False) -> Tensor:
    """``x`` ``[B, ...]`` as a device holds it; ``from_zero``: what is below 0 becomes 0."""
    return fake_quant_activation(x, scale, zero, quantizer.zero if from_zero else 0, quantizer.levels)


def fake_quant_weight(w: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Symmetric and narrow (-127..127 at 8 bits), so that a negative BatchNorm gain may flip the sign exactly."""
    top = weight_max(bits)
    return _FakeQuant.apply(w.float(), scale, torch.zeros_like(scale), -top, top, w.numel() * top)


def zero_point(zero: Tensor) -> Tensor:
    """The integer that stands for 0, of a learned ``zero`` in steps."""
    return zero.detach().round().clamp(0, ACT_MAX)


class Scale(nn.Module):
    """A learned scale: ``|ratio|`` times the ``unit`` it began with.

    The ratio's gradient is ``pace * dL/ds``. A pace of ``1 / unit`` makes an update of rate ``lr`` move the scale as LSQ's
    does, by ``lr * dL/ds``, in a parameter of order 1. An update beyond 0 gives a small scale, whose gradients lead back:
    none is ever dead.
    """

    unit: Tensor
    pace: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.ratio = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("unit", torch.tensor(1.0))
        self.register_buffer("pace", torch.tensor(1.0))

    def forward(self) -> Tensor:
        ratio = self.ratio.detach()
        slope = torch.where(ratio < 0, -self.pace, self.pace)
        return (self.unit * ratio.abs()).clamp(min=MIN_SCALE) + (self.ratio - ratio) * slope

    @torch.no_grad()
    def set(self, scale: float | Tensor, pace: float | None = None) -> None:
        """Begin at ``scale``; ``pace`` is LSQ's where none is given."""
        scale = float(scale)
        self.unit.fill_(scale)
        self.pace.fill_(1 / scale if pace is None else pace)
        self.ratio.fill_(1.0)


class TensorQuantizer(nn.Module):
    """The learned scale and zero point of one 8-bit activation tensor; ``from_zero``: its range begins at 0.

    LSQ's share of itself that a scale moves by is ``1 / s**2`` times a quantity without unit: right for tensors of a range of
    some units, as behind a BatchNorm, and too fast for smaller ones. So all move as LSQ's of a range of ``USUAL`` does.
    """

    def __init__(self, from_zero: bool = False) -> None:
        super().__init__()
        self.scale = Scale()
        self.zero = None if from_zero else nn.Parameter(torch.tensor(0.0))  # as a share of the range

    def forward(self, symmetric: bool = False) -> tuple[Tensor, Tensor]:
        """Scale, and zero point in steps, not yet rounded; that of a ``symmetric`` tensor is not learned."""
        scale = self.scale()
        if symmetric:
            return scale, torch.full_like(scale, MIDDLE)
        if self.zero is None:
            return scale, torch.zeros_like(scale)
        fixed = self.zero.detach()
        # It moves by as large a share of the range as the scale does.
        return scale, ACT_MAX * fixed + (self.zero - fixed) * ACT_MAX * self.scale.pace / self.scale.unit

    @torch.no_grad()
    def set_range(self, low: float, high: float, symmetric: bool = False) -> None:
        """Hold ``low`` to ``high`` (and 0); ``symmetric``: with as many steps below 0 as there are."""
        low, high = min(low, 0.0) if self.zero is not None else 0.0, max(high, 0.0)
        if symmetric:
            low, high = symmetric_range(low, high)
        width = max(high - low, 1e-3)
        scale = width / ACT_MAX
        self.scale.set(scale, scale * ((ACT_MAX - MIDDLE if symmetric else ACT_MAX) / USUAL) ** 2)
        if self.zero is not None:
            self.zero.fill_(-low / width)

    def range(self) -> tuple[float, float]:
        """What it holds, of the scale and zero point that it began with."""
        width, zero = ACT_MAX * float(self.scale.unit), 0.0 if self.zero is None else float(self.zero.detach())
        return -zero * width, (1 - zero) * width


@torch.no_grad()
def least_squares_range(values: Tensor, low: float, high: float, symmetric: bool = False) -> tuple[float, float]:
    """The range within ``low`` to ``high`` (0 among them) whose 256 steps hold a sample of ``values`` ``[N]`` with the least
    squared error: first the upper end, then the lower one is a share of the extreme. ``symmetric``: a share of
    :func:`symmetric_range`, both ends alike."""
    shares = SHARES.flip(0)  # of equals the widest
    if symmetric:
        low, high = symmetric_range(low, high)
        share = float(shares[_squared_errors(values, low * shares, high * shares).argmin()])
        return low * share, high * share
    high = float((high * shares)[_squared_errors(values, torch.full_like(shares, low), high * shares).argmin()])
    low = float((low * shares)[_squared_errors(values, low * shares, torch.full_like(shares, high)).argmin()])
    return low, high


def _squared_errors(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Of ``values`` ``[N]`` in each of the ranges ``[K]``."""
    scale = ((high - low).clamp(min=1e-3) / ACT_MAX)[:, None]
    zero = (-low[:, None] / scale).round()
    q = ((values / scale).round() + zero).clamp(0, ACT_MAX) - zero
    return (q * scale - values).square().mean(1)


@torch.no_grad()
def init_weight_scale(w: Tensor, bits: int) -> Tensor:
    """The weight scale of least squared error: a share of that which holds the largest weight."""
    top = weight_max(bits)
    scale = (w.abs().max().clamp(min=MIN_SCALE) / top * SHARES.to(w.device).flip(0))[:, None]
    values = sample(w)
    q = (values / scale).round().clamp(-top, top)
    return scale[(q * scale - values).square().mean(1).argmin(), 0]


def sample(values: Tensor) -> Tensor:
    """Up to ``SAMPLE`` of the elements, evenly spread ``[N]``."""
    flat = values.detach().reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)]
