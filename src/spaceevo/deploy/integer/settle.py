"""Scales at which every runtime gives the exact integers, wherever it runs: see :mod:`spaceevo.deploy.integer.arithmetic`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from spaceevo.deploy.integer.arithmetic import SIGNED, TABLES
from spaceevo.deploy.integer.model import QParams, gate_qparams
from spaceevo.nn.scheme import Quantizer
from spaceevo.space.graph import Op

F = np.float32
#: How scales are moved: ``TRIES`` relative steps of ``NUDGE``, or to an odd number of sums of which there are ``MANY_SUMS``.
TRIES, NUDGE, MANY_SUMS = 64, 2.0**-22, 1024


def disagreements(op: Op, inputs: Sequence[QParams], y: QParams, quantizer: Quantizer) -> int:
    """For how many inputs a runtime gives another integer than the exact one."""
    if op.kind not in TABLES:
        return 0
    form, *others = TABLES[op.kind]
    exact, apart = form(op, inputs, y), np.array(False)
    for other in dict.fromkeys([*others, *(SIGNED.get(op.kind, ()) if quantizer.symmetric else ())]):
        apart = apart | (exact != other(op, inputs, y))
    return int(np.count_nonzero(apart))


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
