"""From trained parameters to exportable models: BatchNorm folded, weights and biases as the runtime's integers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spaceevo.deploy.integer.model import FloatModel, IntegerModel, QParams, gate_qparams, lower
from spaceevo.deploy.integer.settle import settle
from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.nn.lsq import MIN_SCALE, zero_point
from spaceevo.nn.scheme import ACT_MAX
from spaceevo.space.graph import INPUT, Graph, Op

GATE_DIVISOR, GATE_SHIFT = 6, 3  # hard sigmoid: (y + 3) / 6, clipped to [0, 1]
INT32_MAX = 2**31 - 1


@torch.no_grad()
def integer_model(net: Elastic, graph: Graph, stats: Stats, quantizer: Quantizer) -> IntegerModel:
    """The integers of ``graph`` in ``net``: what fake quantization with ``stats`` computes with.

    A BatchNorm's gain goes into the scales per channel and, where negative, as a sign into the weights; the gate's
    hard sigmoid goes into its convolution's weight scale (a sixth) and bias (plus a half). The output scales of other ops
    are settled: see :mod:`spaceevo.deploy.integer.settle`.
    """
    qparams = {INPUT: _qparams(*net.input(quantizer.symmetric))}
    weights, scales, biases = {}, {}, {}
    lowered = lower(graph)
    readers = lowered.consumers()
    for op in lowered.ops:
        if op.has_weight:
            gain, bias = net.folded(op, stats)
            gain = torch.ones_like(bias) if gain is None else gain
            scale = net.ops_by_name[op.name].weight_scale()
            gate = op.act == "hsigmoid"
            input_scale, _ = qparams[op.inputs[0]]
            weights[op.name] = _weight_integers(net, op, scale, gain, quantizer)
            scales[op.name] = _numpy(scale * _magnitude(gain) / (GATE_DIVISOR if gate else 1))
            step = input_scale * scale * _magnitude(gain)
            biases[op.name] = _bias_integers(bias + GATE_SHIFT if gate else bias, step, weights[op.name])
            if quantizer.symmetric:
                biases[op.name] = held_in_float(biases[op.name], np.float32(input_scale) * scales[op.name])
        inputs = [qparams[name] for name in op.inputs]
        sigmoids = [reader for reader in readers.get(op.name, ()) if reader.kind == "sigmoid"]
        if op.kind == "maxpool":
            qparams[op.name] = inputs[0]
        elif op.kind == "sigmoid":
            qparams[op.name] = gate_qparams(op.kind, quantizer)  # prescribed: TFLite refuses any other
        else:
            qparams[op.name] = settle(op, inputs, _trained_qparams(net, op, quantizer), quantizer, sigmoids)
    return IntegerModel(lowered, weights, scales, biases, qparams, net.padding)


@torch.no_grad()
def float_model(net: Elastic, graph: Graph, stats: Stats) -> FloatModel:
    """``graph`` in ``net`` in full precision, BatchNorm folded."""
    weights, biases = {}, {}
    for op in graph.ops:
        if op.has_weight:
            gain, bias = net.folded(op, stats)
            weight = net.weight(op)
            weights[op.name] = _numpy(weight if gain is None else weight * gain[:, None, None, None]).copy()
            biases[op.name] = _numpy(bias).copy()
    return FloatModel(graph, weights, biases, net.padding)


def _trained_qparams(net: Elastic, op: Op, quantizer: Quantizer) -> QParams:
    return gate_qparams(op.kind, quantizer) if op.kind == "hsigmoid" else _qparams(*net.output_quantizer(op, quantizer))


def _qparams(scale: Tensor, zero: Tensor) -> QParams:
    return scale.item(), int(zero_point(zero))


def _magnitude(gain: Tensor) -> Tensor:
    return gain.abs().clamp(min=MIN_SCALE)


def _weight_integers(net: Elastic, op: Op, scale: Tensor, gain: Tensor, quantizer: Quantizer) -> np.ndarray:
    """int8 ``[cout, cin / groups, k, k]``, with the gain's signs (a channel of gain 0 is 0)."""
    values = net.quantized_weight(op, quantizer)
    return _numpy((values / scale).round() * gain.sign()[:, None, None, None]).astype(np.int8)


def _bias_integers(bias: Tensor, step: Tensor, weights: np.ndarray) -> np.ndarray:
    """int32 ``[cout]`` on the grid ``step``, so that no sum with it overflows."""
    room = INT32_MAX - ACT_MAX * np.abs(weights.astype(np.int64)).sum((1, 2, 3))
    return np.clip(_numpy((bias / step).round().double()), -room, room).astype(np.int32)


def held_in_float(bias: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The int32 ``bias`` ``[cout]`` that a runtime makes of the float32 product of it and its ``step`` (float32 ``[cout]``):
    another one only beyond 22 bits."""
    return np.rint(bias.astype(np.float32) * step / step).astype(np.int32)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
