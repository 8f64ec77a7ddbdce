"""Models with random contents, for profiling: an INT8 kernel's latency depends on shapes alone."""

from __future__ import annotations

import numpy as np

from spaceevo.deploy.integer.model import ACT_MAX, GATE_QPARAMS, SIGMOID_QPARAMS, FloatModel, IntegerModel, lower
from spaceevo.space.graph import INPUT, Graph, Op

RANGE = 6.0  # of a random model's activations


def random_models(
    graph: Graph, rng: np.random.Generator, weight_bits: int = 8, padding: str = "symmetric"
) -> tuple[IntegerModel, FloatModel]:
    """An integer and a float model of ``graph`` with the same random weights, about unit variance kept by every op."""
    top = 2 ** (weight_bits - 1) - 1
    lowered = lower(graph)
    weights, scales, biases = {}, {}, {}
    qparams = {INPUT: GATE_QPARAMS}
    for op in lowered.ops:
        qparams[op.name] = _qparams(op, qparams)
        if op.has_weight:
            fan_in = int(np.prod(op.weight_shape[1:]))
            weights[op.name] = rng.integers(-top, top + 1, op.weight_shape, dtype=np.int8)
            scales[op.name] = np.full(op.cout, 2 / (top * fan_in**0.5), np.float32)
            biases[op.name] = rng.integers(-100, 101, op.cout, dtype=np.int32)
    integer = IntegerModel(lowered, weights, scales, biases, qparams, padding)
    weighted = [op for op in graph.ops if op.has_weight]
    return integer, FloatModel(
        graph,
        {op.name: weights[op.name] * scales[op.name][:, None, None, None] for op in weighted},
        {op.name: (biases[op.name] * integer.bias_scale(op)).astype(np.float32) for op in weighted},
        padding,
    )


def _qparams(op: Op, known: dict[str, tuple[float, int]]) -> tuple[float, int]:
    """Scale and zero point of the op's output, as training would have them."""
    if "hsigmoid" in (op.act, op.kind):
        return GATE_QPARAMS
    if op.kind == "sigmoid":
        return SIGMOID_QPARAMS
    if op.kind in ("mean", "mul", "maxpool"):
        return known[op.inputs[0]]
    return (RANGE / ACT_MAX, 0) if op.act else (2 * RANGE / ACT_MAX, 128)
