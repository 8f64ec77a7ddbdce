"""What a runtime computes, as plain data: the integer model that the writers serialize, and its float counterpart.

An activation integer ``q`` (uint8) of tensor ``t`` stands for ``(q - zero) * scale`` with ``(scale, zero) = qparams[t]``;
a weight integer of output channel ``c`` for ``q * weight_scales[op][c]``; a bias integer for ``q * sx * sw[c]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.space.graph import Graph, Op

ACT_MAX = 255
#: Scale and zero point of what lies in [0, 1]: the hard-sigmoid gate of SE, and the sigmoid inside swish.
GATE_QPARAMS = (1 / ACT_MAX, 0)


@dataclass(frozen=True)
class IntegerModel:
    """An op graph with integer contents; BatchNorm is folded, fused activations are the output's range."""

    graph: Graph
    weights: dict[str, np.ndarray]
    """Per op, int8 ``[cout, cin / groups, kernel, kernel]``."""
    weight_scales: dict[str, np.ndarray]
    """Per op, float32 ``[cout]``."""
    biases: dict[str, np.ndarray]
    """Per op, int32 ``[cout]``."""
    qparams: dict[str, tuple[float, int]]
    """Per tensor (``input`` and every op's output), scale and zero point."""

    def bias_scale(self, op: Op) -> np.ndarray:
        """The grid of the bias, ``sx * sw[c]``: float32 ``[cout]``."""
        return np.float32(self.qparams[op.inputs[0]][0]) * self.weight_scales[op.name]


@dataclass(frozen=True)
class FloatModel:
    """The same subnet in full precision, BatchNorm folded: what an FP32 runtime executes."""

    graph: Graph
    weights: dict[str, np.ndarray]
    """Per op, float32 ``[cout, cin / groups, kernel, kernel]``."""
    biases: dict[str, np.ndarray]
    """Per op, float32 ``[cout]``."""
