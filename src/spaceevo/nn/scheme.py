"""How a device holds tensors in 8 bits, without torch: files are written and run without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.space.graph import AFFINE, SYMMETRIC

ACT_MAX = 255
MIDDLE = 128  # what stands for 0 in a symmetric tensor: integers are unsigned here, and files hold these as int8, less this
CLEAR, WIDER, TRIES = 1e-3, 2.0**-12, 64  # steps from a tie; shares that a range is widened by, and how often


@dataclass(frozen=True)
class Quantizer:
    """How a device holds tensors: see ``conf/device``. ``weight_bits``: 8, or 7 on x86 without VNNI. ``activations``: affine,
    unsigned with a learned zero point (0 where values begin there); or symmetric, signed with zero point 0 everywhere, which
    leaves half of the integers of a tensor without negative values unused.

    What is not here is the same on all devices: activations have 8 bits, and ``hswish`` and ``swish`` are a gate (a hard
    sigmoid, a sigmoid) rounded to 8 bits and a product, which every runtime has integer kernels for.
    """

    weight_bits: int = 8
    activations: str = AFFINE

    @property
    def symmetric(self) -> bool:
        """Whether the zero point of every activation tensor is 0, of signed integers."""
        return self.activations == SYMMETRIC

    @property
    def zero(self) -> int:
        """The unsigned integer that stands for 0 in a tensor whose values begin there."""
        return MIDDLE if self.symmetric else 0

    @property
    def levels(self) -> int:
        """The steps of such a tensor."""
        return ACT_MAX - self.zero

    def gate_scale(self, kind: str) -> float:
        """Of a gate that fills [0, 1] (``hsigmoid``), or does not reach 1 (``sigmoid``: at its middle no tie, and TFLite's)."""
        return 1 / (self.levels + (kind == "sigmoid"))


def weight_max(bits: int) -> int:
    """The largest weight integer of the narrow range."""
    return 2 ** (bits - 1) - 1


def symmetric_range(low: float, high: float) -> tuple[float, float]:
    """The least range of 128 steps below 0 and 127 above it that holds ``low`` to ``high``."""
    scale = max(-low / MIDDLE, high / (ACT_MAX - MIDDLE))
    return -MIDDLE * scale, (ACT_MAX - MIDDLE) * scale


def clear_range(low: float, high: float) -> tuple[float, float]:
    """A symmetric range that holds ``low`` to ``high``, widened until no pixel is near a tie: of 256 even steps over ``low`` to
    ``high``, which are an image's pixels, each is then the same integer in whatever order it is normalized."""
    pixels = np.linspace(low, high, ACT_MAX + 1)
    least, most = symmetric_range(low, high)
    for wider in (1 + i * WIDER for i in range(TRIES)):
        steps = pixels * MIDDLE / (-least * wider)
        if (np.abs(steps - np.floor(steps) - 0.5) >= CLEAR).all():
            return least * wider, most * wider
    return least, most
