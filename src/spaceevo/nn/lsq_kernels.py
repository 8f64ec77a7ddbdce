"""Fake quantization of float32 arrays on the CPU, compiled: one pass forward, one backward, as fast as memory is read."""

from __future__ import annotations

import numpy as np

from spaceevo.compiled import njit

PART = 4096  # elements summed in float32 before they join the sum in float64

_FORWARD = "void(float32[::1], float32, float32, float32, float32, float32[::1])"
_BACKWARD = "UniTuple(float64, 2)(float32[::1], float32[::1], float32, float32, float32, float32, float32[::1])"


@njit(_FORWARD, nogil=True, fastmath={"contract"})
def forward(x, scale, zero, low, high, y):
    """``y = (clip(round(x / scale) + zero, low, high) - zero) * scale``, ties to even."""
    for i in range(len(x)):
        integer = min(max(np.rint(x[i] / scale) + zero, low), high)
        y[i] = (integer - zero) * scale


@njit(_BACKWARD, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def backward(grad, x, scale, zero, low, high, grad_x):
    """Fills ``grad_x`` (``grad`` where no clipping, else 0); gives the gradient of the scale, and the sum of ``grad`` over
    what is clipped."""
    of_scale, of_clipped = 0.0, 0.0
    for i in range(len(x)):
        rounded = np.rint(x[i] / scale) + zero
        grad_x[i] = grad[i] if min(max(rounded, low), high) == rounded else np.float32(0)
    for start in range(0, len(x), PART):  # apart from the writes, so that the order of the sums is always the same
        part_scale, part_clipped = np.float32(0), np.float32(0)
        for i in range(start, min(start + PART, len(x))):
            steps = x[i] / scale
            rounded = np.rint(steps) + zero
            integer = min(max(rounded, low), high)
            inside = integer == rounded
            part_scale += grad[i] * (integer - zero - (steps if inside else np.float32(0)))
            part_clipped += np.float32(0) if inside else grad[i]
        of_scale += part_scale
        of_clipped += part_clipped
    return of_scale, of_clipped
