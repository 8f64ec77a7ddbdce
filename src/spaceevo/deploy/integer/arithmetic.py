"""What an op without weights does to its input integers: exactly, and as onnxruntime and XNNPACK round it.

Such an op is a function of few integers: of one or two input values, or for the mean of their sum. The exact form is
``clip(rint(real / sy) + zy)``, ties to even. The runtimes' forms differ from it, and from each other, where a value lies
within some 1e-4 steps of a tie:

- onnxruntime adds with two fused multiply-adds in float32, and multiplies in float32 and adds the zero point before it
  rounds;
- XNNPACK adds in integers: the scales' ratios as multipliers of 21 bits, and ties are rounded up; it multiplies in
  float32 and rounds before it adds the zero point; its mean is a float32 product plus a float32 constant;
- both look a sigmoid up in a table that they compute with an approximation of their own, good to some 1e-5 steps.

Where a symmetric file holds int8 with zero points of 0, onnxruntime adds with these, but where it makes uint8 of them on x86,
with zero points of 128, which it is told not to (``spaceevo.latency.runtimes.ort``).

All of a kind's functions take the op, its inputs' and its output's scale and zero point, and give the output integers
for every input: ``[256]`` (gates), ``[256, 256]`` (add, mul) or ``[255 * hw**2 + 1]`` (mean, by the sum of its integers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from spaceevo.deploy.integer.model import ACT_MAX, QParams, gate_qparams, least
from spaceevo.nn.scheme import Quantizer
from spaceevo.space.graph import Op

F = np.float32
INT8 = 128  # XNNPACK holds q - 128
HALF = ACT_MAX  # the integer of 1/2 as the runtimes are given it, to be added to x / 6
#: How scales are moved: ``TRIES`` relative steps of ``NUDGE``, or to an odd number of sums of which there are ``MANY_SUMS``.
TRIES, NUDGE, MANY_SUMS = 64, 2.0**-22, 1024
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
    return _ort_sum((a[0], 0), (b[0], 0), (y[0], 0), qa - INT8, qb - INT8) + INT8


def _xnn_sum(a: QParams, b: QParams, y: QParams, qa: np.ndarray, qb: np.ndarray) -> np.ndarray:
    ratios = [F(scale) / F(y[0]) for scale, _ in (a, b)]
    shift = min(max(21 - int(np.frexp(max(ratios))[1]), 1), 62)  # the greater multiplier has 21 bits
    ma, mb = (int(np.rint(np.ldexp(float(ratio), shift))) for ratio in ratios)
    total = (qa.astype(np.int64) - a[1]) * ma + (qb.astype(np.int64) - b[1]) * mb
    return ((total + (1 << (shift - 1))) >> shift) + y[1]


def _grid() -> tuple[np.ndarray, np.ndarray]:
    q = np.arange(ACT_MAX + 1.0)
    return q[:, None], q[None, :]


def _ort_add(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    a, b = inputs
    return _clip(_ort_sum(a, b, y, *_grid()), least(op, y))


def _signed_add(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    a, b = inputs
    return _clip(_signed_sum(a, b, y, *_grid()), least(op, y))


def _xnn_add(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    a, b = inputs
    return _clip(_xnn_sum(a, b, y, *_grid()), least(op, y))


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
    (sa, za), (sb, zb) = inputs
    qa, qb = _grid()
    return ((qa - za) * (qb - zb)).astype(F) * (F(sa) * F(sb) / F(y[0]))


def _ort_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _clip(np.rint(_scaled_product(inputs, y) + F(y[1])))


def _xnn_mul(op: Op, inputs: Sequence[QParams], y: QParams) -> np.ndarray:
    return _clip(np.rint(_scaled_product(inputs, y)) + y[1])


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
    fixed = F(y[1] - INT8) - F(op.in_hw**2 * (zero - INT8)) * factor
    return _clip(np.rint(_sums(op, INT8).astype(F) * factor + fixed) + INT8)


#: The exact form of each kind, and then the runtimes' (of a sigmoid: what is below and above both).
TABLES: dict[str, tuple[Table, Table, Table]] = {
    "add": (_add, _ort_add, _xnn_add),
    "mul": (_mul, _ort_mul, _xnn_mul),
    "mean": (_mean, _ort_mean, _xnn_mean),
    "hsigmoid": (_hsigmoid, _gate_of(_ort_sum), _gate_of(_xnn_sum)),
    "sigmoid": (_sigmoid, _low_sigmoid, _high_sigmoid),
}
#: onnxruntime's of int8 with zero points of 0, where that is yet another form.
SIGNED: dict[str, Table] = {"add": _signed_add, "hsigmoid": _gate_of(_signed_sum)}


@lru_cache(256)
def table(op: Op, inputs: tuple[QParams, ...], y: QParams) -> np.ndarray:
    """The op's exact output integers, uint8."""
    return TABLES[op.kind][0](op, inputs, y)


def disagreements(op: Op, inputs: Sequence[QParams], y: QParams, quantizer: Quantizer) -> int:
    """For how many inputs a runtime gives another integer than the exact one."""
    if op.kind not in TABLES:
        return 0
    exact, *forms = TABLES[op.kind]
    if quantizer.symmetric and op.kind in SIGNED:
        forms.append(SIGNED[op.kind])
    expected = exact(op, inputs, y)
    return int(np.count_nonzero(np.any([form(op, inputs, y) != expected for form in forms], axis=0)))


def settle(op: Op, inputs: Sequence[QParams], y: QParams, quantizer: Quantizer, readers: Sequence[Op] = ()) -> QParams:
    """``y`` with its scale moved so little (mostly by parts per million) that for no input a runtime rounds otherwise than
    the exact form; if all that are tried fail, the one with the fewest such inputs. ``readers``: sigmoids of the output,
    which have a prescribed scale themselves."""
    fewest, best, gate = None, y, gate_qparams("sigmoid", quantizer)
    for scale in _candidates(op, inputs, y[0]):
        count = disagreements(op, inputs, (scale, y[1]), quantizer)
        count += sum(disagreements(reader, [(scale, y[1])], gate, quantizer) for reader in readers)
        if fewest is None or count < fewest:
            fewest, best = count, (scale, y[1])
        if count == 0:
            break
    return best


def _candidates(op: Op, inputs: Sequence[QParams], scale: float) -> Iterator[float]:
    """Scales at most as great as ``scale`` (a range may have a cap), but for a mean over many elements: there the next
    one that puts every tie in the middle between two sums, which an odd number of sums a step does."""
    if op.kind == "mean":
        sums = op.in_hw**2 * scale / inputs[0][0]
        if sums >= MANY_SUMS:
            yield float(F((2 * round((sums - 1) / 2) + 1) * inputs[0][0] / op.in_hw**2))
    for step in range(TRIES):
        yield float(F(scale * (1 - step * NUDGE)))
