"""Models of one op without weights, with images that have every input of it."""

from __future__ import annotations

import numpy as np
from deploy.nets import one_op

from spaceevo.deploy.integer.arithmetic import SIGNED, TABLES
from spaceevo.deploy.integer.model import MIDDLE, IntegerModel, QParams, gate_qparams
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.integer.settle import settle
from spaceevo.nn.elastic import Quantizer
from spaceevo.space.graph import INPUT, Op

HW = {"add": 256, "mul": 256, "mean": 20}  # sizes of images that have every input; of others 16
AFFINE, SYMMETRIC = Quantizer(), Quantizer(activations="symmetric")
Case = tuple[list[QParams], QParams]


def qparams(rng: np.random.Generator, scale: float, quantizer: Quantizer) -> QParams:
    return float(np.float32(scale)), MIDDLE if quantizer.symmetric else int(rng.integers(0, 256))


def random_case(kind: str, rng: np.random.Generator, quantizer: Quantizer = AFFINE) -> Case:
    """Scales and zero points of the inputs and of an output that holds most of what comes of them."""
    a, b = (qparams(rng, rng.uniform(0.005, 0.1), quantizer) for _ in range(2))
    if kind == "add":
        return [a, b], qparams(rng, rng.uniform(0.3, 1.2) * (a[0] + b[0]), quantizer)
    if kind == "mul":
        return [a, b], qparams(rng, rng.uniform(0.3, 1.0) * 100 * a[0] * b[0], quantizer)
    if kind == "mean":
        return [a], qparams(rng, a[0] * rng.uniform(0.3, 1.2), quantizer)
    return [a], gate_qparams(kind, quantizer)


def tied_case(kind: str, quantizer: Quantizer = AFFINE) -> Case:
    """One of an addition, product or hard sigmoid in which many inputs are ties, which every runtime rounds in its own way."""
    zero = MIDDLE if quantizer.symmetric else 100
    if kind == "hsigmoid":
        gate = gate_qparams(kind, quantizer)
        return [(float(np.float32(3 * gate[0])), zero)], gate
    return [(0.5, zero), (0.25 if kind == "add" else 2**-5, zero)], (1.0, zero)


def every_input(kind: str, scale: float, hw: int) -> np.ndarray:
    """Images with every input of the op, or for a mean with sums all over the range."""
    q = np.arange(256)
    if kind == "mean":
        rng = np.random.default_rng(0)
        pixels = np.clip(rng.integers(0, 256, (512, 1, 1, 1)) + rng.integers(-60, 61, (512, 1, hw, hw)), 0, 255)
        return (pixels * np.float32(scale)).astype(np.float32)
    pixels = np.stack(np.meshgrid(q, q, indexing="ij")) if kind in ("add", "mul") else q.reshape(1, 16, 16)
    return (pixels[None] * np.float32(scale)).astype(np.float32)


def case_model(kind: str, case: Case, hw: int) -> tuple[IntegerModel, np.ndarray]:
    inputs, y = case
    model = one_op(kind, inputs, y, hw)
    images = every_input(kind, inputs[0][0], hw)
    scale, zero = model.qparams[INPUT]
    return model, images - np.float32(zero) * np.float32(scale)


def settled_case(kind: str, case: Case, hw: int, quantizer: Quantizer = AFFINE) -> Case:
    """The same with its scale settled: the output's, or, as a sigmoid's is prescribed, the input's."""
    inputs, y = case
    op = one_op(kind, inputs, y, hw).graph.ops[-1]
    if kind == "sigmoid":
        return [settle(Op("x", "conv", (), 1, 1, hw, hw), [], inputs[0], quantizer, [op])], y
    return inputs, settle(op, inputs, y, quantizer)


def reference(model: IntegerModel, images: np.ndarray) -> np.ndarray:
    """The integers of the op's output, flat."""
    record: dict[str, np.ndarray] = {}
    run_integer(model, images, record)
    return record["y"].ravel()


def imitated(case: Case, model: IntegerModel, images: np.ndarray) -> list[np.ndarray]:
    """What each form of the op's kind gives for the same ``images``, flat: the exact one, then the runtimes'."""
    record: dict[str, np.ndarray] = {}
    run_integer(model, images, record)
    op, index = model.graph.ops[-1], record[INPUT].astype(int)
    chosen = index.sum((2, 3))[:, 0] if op.kind == "mean" else tuple(index[0])
    exact, *forms = TABLES[op.kind]
    if model.symmetric:
        forms[::2] = SIGNED.get(op.kind, forms[::2])
    return [form(op, *case)[chosen].ravel() for form in (exact, *forms)]
