"""Does the file compute what was trained? Labels, integers and ops of a runtime against the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import run_op
from spaceevo.deploy.runtimes.ort import integer_op_report as integer_op_report
from spaceevo.deploy.runtimes.ort import run_batches as run_batches
from spaceevo.deploy.runtimes.ort import session as session

FLOAT_CONVOLUTIONS = ("Conv", "FusedConv")


@dataclass(frozen=True)
class Parting:
    """How far a runtime's op is from the reference's on the same inputs: ``steps`` at most, in ``share`` of elements."""

    op: str
    kind: str
    steps: int
    share: float


def partings(model: IntegerModel, record: Mapping[str, np.ndarray]) -> list[Parting]:
    """The ops, in order, where a runtime's ``record`` (of ``ort.record_ops`` or ``litert.record_ops``) is not what the
    reference makes of that op's recorded inputs: an error is not carried from op to op."""
    found = []
    for op in model.graph.ops:
        expected = run_op(model, op, [record[name] for name in op.inputs])
        steps = np.abs(expected.astype(np.int16) - record[op.name])
        if steps.any():
            found.append(Parting(op.name, op.kind, int(steps.max()), float((steps > 0).mean())))
    return found


def agreement(labels_a: np.ndarray, labels_b: np.ndarray) -> float:
    """Percent of equal labels."""
    return 100.0 * float(np.mean(np.asarray(labels_a) == np.asarray(labels_b)))


def label_agreement(logits: np.ndarray, judge: np.ndarray) -> float:
    """Percent of rows whose greatest entry in ``logits`` ``[N, classes]`` is one of the greatest in ``judge``: integers
    tie often, and either label is then right."""
    chosen = np.take_along_axis(judge, logits.argmax(1)[:, None], 1)[:, 0]
    return agreement(chosen, judge.max(1))


def same_integers(logits: np.ndarray, reference: np.ndarray) -> float:
    """Percent of equal elements of two outputs ``[N, classes]`` on the same grid."""
    return 100.0 * float(np.mean(logits == reference))


def float_convolutions(report: Mapping[str, int]) -> int:
    """Convolutions of an ``integer_op_report`` that do not run as integer kernels."""
    return sum(report.get(kind, 0) for kind in FLOAT_CONVOLUTIONS)
