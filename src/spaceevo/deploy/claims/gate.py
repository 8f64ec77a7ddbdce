"""The parity gate: a file leaves only if it computes what was trained, as a whole and op by op; else which op is the first.

The judge is the trained model (:mod:`spaceevo.deploy.integer.trained`). Of all block types, activations, strides, paddings
and bits, in both runtimes, an op of a right file is at most 1e-4 steps from it beyond its rounding, and so are its
constants; of the faults in ``tests/deploy/test_gate.py`` the smallest makes 0.1 (a bias, by as much), a weight that is one
integer off 0.4.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from spaceevo.deploy.claims.parity import label_agreement
from spaceevo.deploy.integer.model import ACT_MAX, Inspection, QParams, lower
from spaceevo.deploy.integer.trained import Trained
from spaceevo.space.graph import INPUT, Graph, Op

#: By a runtime's name and a file's: what that runtime makes of the file, which is another's.
OTHERS = "other_runtimes"
COMPARED = ("agreement", "mean_difference", "max_difference")

MOST_IMAGES, MOST_ELEMENTS = 64, 10**8  # compared op by op: as many images as fit in some 1 GB of every op's outputs
FLOOR = 0.01  # steps of the output's quantizer that an op may be off beyond its rounding
MOVED, MOVED_MEAN = 2e-5, 1.1e-3  # shares of itself that settling may move a scale by; a mean's
EXACT = 1e-6  # of itself, what a scale that nobody moves is held to in float32


def compare(outputs: np.ndarray, trained: np.ndarray, step: float) -> dict[str, float]:
    """How far a runtime's logits ``[N, classes]`` are from the trained model's.

    Returns:
        agreement: percent of images with the trained model's label; where the runtime's highest logits tie, any of them.
        mean_difference, max_difference: of the logits, in steps of the output's quantizer.
    """
    steps = np.abs(outputs.astype(np.float64) - trained) / step
    return dict(
        agreement=label_agreement(trained, outputs),
        mean_difference=float(steps.mean()),
        max_difference=float(steps.max()),
    )


def broken_claims(figures: Mapping[str, float], tolerance: float, mean_difference: float) -> list[str]:
    """What of :func:`compare` is worse than allowed, in words; nothing for a file that may leave."""
    found = []
    if not figures["agreement"] >= tolerance:
        found.append(
            f"agrees with the trained model on {figures['agreement']:.2f} % of the images (export.tolerance={tolerance})"
        )
    if not figures["mean_difference"] <= mean_difference:
        steps = f"{figures['mean_difference']:.3g} output steps on average"
        found.append(f"is {steps} from the trained model (export.mean_difference={mean_difference})")
    return found


def judge_ops(trained: Trained, file: Inspection, images: np.ndarray) -> list[dict[str, Any]]:
    """The input, every op and the output of a file against the trained model over ``images`` ``[N, C, R, R]``: scale and zero
    point, weights and bias, and what it gives of the file's own inputs.

    Returns:
        A row each, in execution order: ``op``, ``kind``, ``apart`` (percent of elements that the op's rounding does not
        explain), ``steps`` (the most beyond it) and ``why`` it is not the trained op, None where it is.
    """
    expected, found = trained.qparams(), {}
    for op, beyond in trained.ops_apart(file, torch.from_numpy(images)):
        apart = 100 * float((~(beyond <= _allowed(op.kind))).float().mean())  # what is no number is apart
        found[op.name] = apart, max(0.0, float(beyond.max()))
    rows = []
    for op in (Op(INPUT, "input", (), 0, 0, 0, 0), *lower(trained.graph).ops):
        apart, steps = found.get(op.name, (0.0, 0.0))
        why = _other_grid(op, file.qparams[op.name], expected[op.name]) or _other_constants(op, trained, file)
        if why is None and apart:
            why = f"{steps:.3g} steps beyond its rounding, {apart:.3g} % of its elements"
        rows.append(dict(op=op.name, kind=op.kind, apart=apart, steps=steps, why=why))
    return [*rows, _judged_logits(trained, file)]


def _judged_logits(trained: Trained, file: Inspection) -> dict[str, Any]:
    """The row of what leaves the file: the last op's integers by their trained scale and zero point, in float32."""
    last = trained.graph.output.name
    held, (scale, _) = file.qparams[last], trained.qparams()[last]
    real = (file.integers[last].reshape(len(file.logits), -1).astype(np.float32) - np.float32(held[1])) * np.float32(held[0])
    beyond = np.abs(file.logits - real) / scale
    apart, steps = 100 * float((~(beyond <= FLOOR)).mean()), float(beyond.max())
    why = f"{steps:.3g} steps from the last op's integers, {apart:.3g} % of its elements" if apart else None
    return dict(op="logits", kind="output", apart=apart, steps=steps, why=why)


def _allowed(kind: str) -> float:
    """Steps that an op may be off where it is right: at the range's end those that its scale was moved."""
    return FLOOR + ACT_MAX * (MOVED_MEAN if kind == "mean" else MOVED)


def _other_grid(op: Op, given: QParams, trained: QParams) -> str | None:
    """Whether the scale or zero point of a tensor are others than trained, in words."""
    settled = MOVED_MEAN if op.kind == "mean" else MOVED
    near = EXACT if op.kind in ("input", "sigmoid") else settled
    if given[1] == trained[1] and abs(given[0] / trained[0] - 1) <= near:
        return None
    return f"scale {given[0]:.6g} and zero point {given[1]}, trained {trained[0]:.6g} and {trained[1]}"


def _other_constants(op: Op, trained: Trained, file: Inspection) -> str | None:
    """Whether weights or bias are others than trained, in words."""
    if not op.has_weight:
        return None
    steps = trained.constants_apart(op, file.weights[op.name], file.biases[op.name])
    return None if steps <= _allowed(op.kind) else f"other weights or biases, by up to {steps:.3g} steps of a channel's output"


def parity_report(
    figures: Mapping[str, Mapping[str, Any]],
    ops: Mapping[str, list[dict[str, Any]]],
    images: int,
    tolerance: float,
    mean_difference: float,
    others: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({}),
) -> dict[str, Any]:
    """What ``parity.json`` holds: :func:`compare` of every INT8 file with what is allowed, why a file is ``refused``, the
    ops of the first file (``ops``: :func:`judge_ops` of each, over so many ``images``), and of all files the first op that
    is not the trained one. ``others``: the figures of files in a runtime that reads another's, by its name: it rounds as it
    likes, and is held to the labels alone."""
    compared = {name: {key: figures[name][key] for key in COMPARED} for name in ops}
    wrong = {name: [i for i, row in enumerate(rows) if row["why"]] for name, rows in ops.items()}
    refused = []
    for name, claims in compared.items():
        reasons = broken_claims(claims, tolerance, mean_difference)
        if wrong[name]:
            reasons.append(f"has {len(wrong[name])} of {len(ops[name])} ops that are not the trained ones")
        refused += [f"{name} {reason}" for reason in reasons]
    beside = {
        by: {name: {key: told[name][key] for key in COMPARED} for name in ops if name in told} for by, told in others.items()
    }
    for by, told in beside.items():
        for name, claims in told.items():
            refused += [f"{name} in {by} {reason}" for reason in broken_claims(claims, tolerance, math.inf)]
    place, first = min(((found[0], name) for name, found in wrong.items() if found), default=(0, None))
    return dict(
        refused=refused,
        files=compared,
        **({OTHERS: beside} if beside else {}),
        allowed=dict(agreement=tolerance, mean_difference=mean_difference, steps=FLOOR),
        images=images,
        first_apart=None if first is None else dict(file=first, **ops[first][place]),
        ops=next(iter(ops.values())),
    )


def refusal(report: Mapping[str, Any]) -> str:
    """Why a file is refused, in one line."""
    first = report["first_apart"]
    where = "op by op the files give what the trained ops make of the same inputs"
    if first is not None:
        where = f"{first['file']} parts from the trained model first in {first['op']} ({first['kind']}: {first['why']})"
    return f"{' and '.join(report['refused'])}; {where}"


def digest(outputs: np.ndarray) -> str:
    """sha256 of logits: equal on two machines, or of two files, if every bit is."""
    return hashlib.sha256(np.ascontiguousarray(outputs, np.float32).tobytes()).hexdigest()


def images_to_compare(graph: Graph) -> int:
    """How many images are compared op by op: 1 to 64, by how large a subnet's feature maps are."""
    elements = sum(op.cout * op.out_hw**2 for op in graph.ops)
    return max(1, min(MOST_IMAGES, MOST_ELEMENTS // elements))
