"""The parity gate: a file leaves only if it computes what was trained; where it does not, op by op, which op is the first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.parity import label_agreement, session
from spaceevo.deploy.reference import run_integer
from spaceevo.space.graph import INPUT, Graph

COMPARED = ("agreement", "mean_difference", "max_difference")

MOST_IMAGES, MOST_ELEMENTS = 64, 10**8  # compared op by op: as many images as fit in some 1 GB of every op's outputs


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


def parity_report(
    files: Mapping[str, Mapping[str, Any]],
    model: IntegerModel,
    content: bytes,
    images: np.ndarray,
    tolerance: float,
    mean_difference: float,
) -> dict[str, Any]:
    """What ``parity.json`` holds: :func:`compare` of every INT8 file with what is allowed, why a file is ``refused``, and the
    ops of the ONNX file (``content``) over ``images``, with the first that parts from the integer reference."""
    rows = compare_ops(model, content, images)
    compared = {name: {key: figures[key] for key in COMPARED} for name, figures in files.items() if COMPARED[0] in figures}
    reasons = {name: broken_claims(figures, tolerance, mean_difference) for name, figures in compared.items()}
    return dict(
        refused=[f"{name} {reason}" for name, found in reasons.items() for reason in found],
        files=compared,
        allowed=dict(agreement=tolerance, mean_difference=mean_difference),
        images=len(images),
        first_apart=next((row for row in rows if row["steps"]), None),
        ops=rows,
    )


def refusal(report: Mapping[str, Any]) -> str:
    """Why a file is refused, in one line."""
    first = report["first_apart"]
    where = "op by op onnxruntime gives the integer reference's integers, so it is fake quantization that parts from them"
    if first is not None:
        steps = f"{first['steps']} step{'s' if first['steps'] > 1 else ''}, {first['apart']:.3g} % of its elements"
        where = f"onnxruntime and the integer reference part first in {first['op']} ({first['kind']}: {steps})"
    return f"{' and '.join(report['refused'])}; {where}"


def digest(outputs: np.ndarray) -> str:
    """sha256 of logits: equal on two machines, or of two files, if every bit is."""
    return hashlib.sha256(np.ascontiguousarray(outputs, np.float32).tobytes()).hexdigest()


def images_to_compare(graph: Graph) -> int:
    """How many images are compared op by op: 1 to 64, by how large a subnet's feature maps are."""
    elements = sum(op.cout * op.out_hw**2 for op in graph.ops)
    return max(1, min(MOST_IMAGES, MOST_ELEMENTS // elements))


def compare_ops(model: IntegerModel, file: bytes, images: np.ndarray) -> list[dict[str, Any]]:
    """Every op's output integers in onnxruntime against the integer reference's, over ``images`` ``[N, C, R, R]``.

    Returns:
        A row an op, in execution order: ``op``, ``kind``, ``apart`` (percent of elements) and ``steps`` (the most).
    """
    expected: dict[str, np.ndarray] = {}
    run_integer(model, images, expected)
    found = op_outputs(file, images)
    rows = []
    for op in model.graph.ops:
        if op.name in found:
            steps = np.abs(found[op.name].astype(np.int16) - expected[op.name])
            rows.append(dict(op=op.name, kind=op.kind, apart=100 * float((steps > 0).mean()), steps=int(steps.max())))
    return rows


def op_outputs(file: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """The output integers of every op of a QDQ file that has its own, by the op's name: run by a copy that puts them out."""
    copy = onnx.load_from_string(file)
    tensors = [node.output[0] for node in copy.graph.node if node.op_type == "QuantizeLinear"]
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in tensors)
    running = session(copy.SerializeToString())
    fixed = running.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else len(images)
    parts = [running.run(tensors, {INPUT: images[i : i + batch]}) for i in range(0, len(images), batch)]
    return {name.removesuffix(".q"): np.concatenate([part[i] for part in parts]) for i, name in enumerate(tensors)}
