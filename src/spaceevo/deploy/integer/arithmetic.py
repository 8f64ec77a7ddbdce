"""What an op without weights does to its input integers: exactly, and as onnxruntime and XNNPACK round it.

Such an op is a function of few integers: of one or two input values, or for the mean of their sum. The exact form is
``clip(rint(real / sy) + zy)``, ties to even. The runtimes' forms differ from it, and from each other, where a value lies
within some 1e-4 steps of a tie:

- onnxruntime adds with two fused multiply-adds in float32, and multiplies in float32 and adds the zero point before it
  rounds;
- XNNPACK holds an integer less 128; it adds in integers: the scales' ratios as multipliers of 21 bits, and ties are rounded
  up; it multiplies in float32 and rounds before it adds the zero point; its mean is a float32 product plus a float32 constant;
- both look a sigmoid up in a table that they compute with an approximation of their own, good to some 1e-5 steps;
- on ARM onnxruntime adds in integers too, with multipliers of 22 bits and ties away from zero, and fuses a product with the
  zero point; XNNPACK's product and mean are exact but for the float32 ratio of their scales, and ties are rounded up
  (found by ``tests/deploy/test_emulated.py`` for every input on an emulated Cortex-A76).

Where a symmetric file holds int8 with zero points of 0, onnxruntime computes with these: on x86 that is another sum, and a
product is rounded before 128 is added (on ARM too). On x86 it would make uint8 of them, with zero points of 128, but that it
is told not to (``spaceevo.latency.runtimes.ort``).

All of a kind's functions take the op, its inputs' and its output's scale and zero point, and give the output integers
for every input: ``[256]`` (gates), ``[256, 256]`` (add, mul) or ``[255 * hw**2 + 1]`` (mean, by the sum of its integers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from spaceevo.deploy.integer.model import ACT_MAX, MIDDLE, QParams, least
from spaceevo.space.graph import Op

F = np.float32
HALF = ACT_MAX  # the integer of 1/2 as the runtimes are given it, to be added to x / 6
MARGIN = 1e-4  # steps by which a runtime's sigmoid may be off before it is rounded
Table = Callable[[Op, Sequence[QParams], QParams], np.ndarray]


def sixth(x: QParams) -> QParams:
    """The same integers read as a sixth of what they are."""
    return float(F(x[0]) / F(6)), x[1]


def half(gate: QParams) -> QParams:
    """Scale and zero point of the 1/2 that is added for a ``gate``."""
    return float(F(0.5 / (HALF - gate[1]))), gate[1]


def _clip(x: np.ndarray, low: int = 0) -> np.ndarray:
    return np.clip(x, low, ACT_MAX).astype(np.uint8)


def _exact(real: np.ndarray, y: QParams, low: int = 0) -> np.ndarray:
    """``real``: float64, in the unit of the scales."""
    return _clip(np.rint(real / y[0]) + y[1], low)


def _value(x: QParams) -> np.ndarray:
    """The real values of all integers, float64 ``[256]``."""
    return (np.arange(ACT_MAX + 1.0) - x[1]) * x[0]


# -- add ------------------------------------------------------------------------------------------------------------


def _add(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    a, b = inputs
    return _exact(_value(a)[:, None] + _value(b), y, least(op, y))


def _ort_sum(a: QParams, b: QParams, y: QParams, qa: np.ndarray, qb: np.ndarray) -> np.ndarray:
    """Two fused multiply-adds, which float64 imitates; not yet clipped."""
    ratio_a, ratio_b = (float(F(scale) / F(y[0])) for scale, _ in (a, b))
    fixed = float(F(y[1]) - F(ratio_a * a[1] + float(F(ratio_b) * F(b[1]))))
    partial = (qb * ratio_b + fixed).astype(F).astype(np.float64)
    return np.rint((qa * ratio_a + partial).astype(F))


def _signed_sum(a: QParams, b: QParams, y: QParams, qa: np.ndarray, qb: np.ndarray) -> np.ndarray:
    """The same of int8 with zero points of 0."""
    return _ort_sum((a[0], 0), (b[0], 0), (y[0], 0), qa - MIDDLE, qb - MIDDLE) + MIDDLE


def _xnn_sum(
    a: QParams, b: QParams, y: QParams, qa: np.ndarray, qb: np.ndarray, bits: int = 21, away: bool = False
) -> np.ndarray:
    """The greater multiplier has so many ``bits``; ``away``: ties are rounded away from zero."""
    ratios = [F(scale) / F(y[0]) for scale, _ in (a, b)]
    shift = min(max(bits - int(np.frexp(max(ratios))[1]), 1), 62)
    ma, mb = (int(np.rint(np.ldexp(float(ratio), shift))) for ratio in ratios)
    total = (qa.astype(np.int64) - a[1]) * ma + (qb.astype(np.int64) - b[1]) * mb
    total -= (total < 0) & away
    return ((total + (1 << (shift - 1))) >> shift) + y[1]


def _ort_arm_sum(a: QParams, b: QParams, y: QParams, qa: np.ndarray, qb: np.ndarray) -> np.ndarray:
    return _xnn_sum(a, b, y, qa, qb, bits=22, away=True)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    q = np.arange(ACT_MAX + 1.0)
    return q[:, None], q[None, :]


def _add_of(add: Callable[..., np.ndarray]) -> Table:
    """An addition as a runtime's ``add`` rounds it."""

    def form(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
        return _clip(add(*inputs, y, *_grid()), least(op, y))

    return form


# -- gates ----------------------------------------------------------------------------------------------------------


def _hsigmoid(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    """The range [0, 1] of the output's integers is the clamp."""
    scale, zero = half(y)
    return _exact(_value(sixth(inputs[0])) + (HALF - zero) * scale, y, least(op, y))


def _gate_of(add: Callable[..., np.ndarray]) -> Table:
    """A hard sigmoid that a runtime adds up as ``add`` does."""

    def form(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
        q = np.arange(ACT_MAX + 1.0)
        return _clip(add(sixth(inputs[0]), half(y), y, q, np.full_like(q, HALF)), least(op, y))

    return form


def _sigmoid(op: Op, inputs: Sequence[QParams], y: QParams, shift: float = 0.0) -> np.ndarray:
    return _exact(1 / (1 + np.exp(-_value(inputs[0]))) + shift * y[0], y)


def _low_sigmoid(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _sigmoid(op, inputs, y, -MARGIN)


def _high_sigmoid(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _sigmoid(op, inputs, y, MARGIN)


# -- mul ------------------------------------------------------------------------------------------------------------


def _mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    a, b = inputs
    return _exact(_value(a)[:, None] * _value(b), y)


def _scaled_product(inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    product, ratio = _product(inputs, y)
    return product.astype(F) * ratio


def _product(inputs: Sequence[QParams], y: QParams) -> tuple[np.ndarray, np.float32]:
    """Every product of ``q - zero``, and what it is scaled by."""
    (sa, za), (sb, zb) = inputs
    qa, qb = _grid()
    return (qa - za) * (qb - zb), F(sa) * F(sb) / F(y[0])


def _ort_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _clip(np.rint(_scaled_product(inputs, y) + F(y[1])))


def _xnn_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _clip(np.rint(_scaled_product(inputs, y)) + y[1])


def _ort_arm_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    """One fused multiply-add, which float64 imitates."""
    product, ratio = _product(inputs, y)
    return _clip(np.rint((product * float(ratio) + y[1]).astype(F)))


def _xnn_arm_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    product, ratio = _product(inputs, y)
    return _clip(np.floor(product * float(ratio) + 0.5) + y[1])


# -- mean -----------------------------------------------------------------------------------------------------------


def _sums(op: Op, zero: int) -> np.ndarray:
    """Every sum of ``q - zero``."""
    n = op.in_hw**2
    return np.arange(ACT_MAX * n + 1.0) - zero * n


def _mean(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    ((scale, zero),) = inputs
    return _exact(_sums(op, zero) * (scale / op.in_hw**2), y)


def _ort_mean(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    ((scale, zero),) = inputs
    return _clip(np.rint(_sums(op, zero).astype(F) * (F(scale) / (F(y[0]) * F(op.in_hw**2)))) + y[1])


def _xnn_mean(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    ((scale, zero),) = inputs
    factor = F(scale) / F(y[0]) * (F(1) / F(op.in_hw**2))
    fixed = F(y[1] - MIDDLE) - F(op.in_hw**2 * (zero - MIDDLE)) * factor
    return _clip(np.rint(_sums(op, MIDDLE).astype(F) * factor + fixed) + MIDDLE)


def _xnn_arm_mean(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    ((scale, zero),) = inputs
    ratio = float(F(scale) / (F(y[0]) * F(op.in_hw**2)))
    return _clip(np.floor(_sums(op, zero) * ratio + 0.5) + y[1])


_xnn_add, _ort_arm_add = _add_of(_xnn_sum), _add_of(_ort_arm_sum)
_xnn_hsigmoid, _ort_arm_hsigmoid = _gate_of(_xnn_sum), _gate_of(_ort_arm_sum)
#: The exact form of each kind, and then onnxruntime's and XNNPACK's: on x86, then on ARM (of a sigmoid: what is below and
#: above all).
TABLES: dict[str, tuple[Table, Table, Table, Table, Table]] = {
    "add": (_add, _add_of(_ort_sum), _xnn_add, _ort_arm_add, _xnn_add),
    "mul": (_mul, _ort_mul, _xnn_mul, _ort_arm_mul, _xnn_arm_mul),
    "mean": (_mean, _ort_mean, _xnn_mean, _ort_mean, _xnn_arm_mean),
    "hsigmoid": (_hsigmoid, _gate_of(_ort_sum), _xnn_hsigmoid, _ort_arm_hsigmoid, _xnn_hsigmoid),
    "sigmoid": (_sigmoid, _low_sigmoid, _high_sigmoid, _low_sigmoid, _high_sigmoid),
}
#: onnxruntime's of int8 with zero points of 0 where these are others: on x86, then on ARM.
SIGNED: dict[str, tuple[Table, Table]] = {
    "add": (_add_of(_signed_sum), _ort_arm_add),
    "mul": (_xnn_mul, _xnn_mul),
    "hsigmoid": (_gate_of(_signed_sum), _ort_arm_hsigmoid),
}


@lru_cache(256)
def table(op: Op, inputs: tuple[QParams, ...], y: QParams) -> np.ndarray:
    """The op's exact output integers, uint8."""
    return TABLES[op.kind][0](op, inputs, y)
