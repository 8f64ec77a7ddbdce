"""Models with random contents, for profiling: an INT8 kernel's latency depends on shapes alone."""

from __future__ import annotations

import numpy as np

from spaceevo.deploy.integer.model import FloatModel, IntegerModel, QParams, gate_qparams, lower
from spaceevo.nn.scheme import MIDDLE, Quantizer, weight_max
from spaceevo.space.graph import INPUT, Graph, Op

RANGE = 6.0  # of a random model's activations


def random_models(
    graph: Graph, rng: np.random.Generator, quantizer: Quantizer, padding: str = "symmetric"
) -> tuple[IntegerModel, FloatModel]:
    """An integer and a float model of ``graph`` with the same random weights, about unit variance kept by every op."""
    top = weight_max(quantizer.weight_bits)
    lowered = lower(graph)
    weights, scales, biases = {}, {}, {}
    qparams = {INPUT: gate_qparams("hsigmoid", quantizer)}
    for op in lowered.ops:
        qparams[op.name] = _qparams(op, qparams, quantizer)
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


def _qparams(op: Op, known: dict[str, QParams], quantizer: Quantizer) -> QParams:
    """Scale and zero point of the op's output, as training would have them."""
    for gate in ("hsigmoid", "sigmoid"):
        if gate in (op.act, op.kind):
            return gate_qparams(gate, quantizer)
    if op.kind in ("mean", "mul", "maxpool"):
        return known[op.inputs[0]]
    if op.act or quantizer.symmetric:
        return RANGE / quantizer.levels, quantizer.zero
    return 2 * RANGE / quantizer.levels, MIDDLE
