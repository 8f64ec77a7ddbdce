"""Writes an integer or a float model as ONNX: one function per kind of op, shared by INT8 (QDQ) and FP32.

In the QDQ form every op computes in float between DequantizeLinear and QuantizeLinear nodes that carry the trained scales
and zero points; a runtime fuses each such group into one integer kernel. A fused activation needs no node there: it is the
range of the output's QuantizeLinear. The hard-sigmoid gate is an addition to a sixth of x: x's own integers, dequantized
with a sixth of its scale. In FP32 the weights and bias before it give the gate itself, and what is left is a Clip to [0, 1]: a
product with a HardSigmoid is what OpenCV takes for a hard-swish, whatever the HardSigmoid is of.

A symmetric model is written as TensorRT reads it: int8 with zero points of 0, and biases as float32, for it dequantizes no
int32; onnxruntime makes the same int32 of them (1.21 and later). There 0 is not the range's end, so a fused activation is a
Relu behind the op's QuantizeLinear, with a pair of its own: a convolution right before a Relu onnxruntime computes in float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_graph import GraphWriter, finish
from spaceevo.deploy.integer.arithmetic import HALF, half, sixth
from spaceevo.deploy.integer.model import FloatModel, IntegerModel, least
from spaceevo.space.graph import INPUT, Op

Emit = Callable[[GraphWriter, Op, list[str]], str]


def _window(w: GraphWriter, op: Op) -> dict[str, list[int]]:
    before, after = op.pads(w.padding)
    return dict(kernel_shape=[op.kernel] * 2, strides=[op.stride] * 2, pads=[before, before, after, after])


def _conv(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    groups = op.cout if op.kind == "depthwise" else 1
    return w.node("Conv", op.name, inputs, group=groups, **_window(w, op))


def _maxpool(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("MaxPool", op.name, inputs, **_window(w, op))


def _mean(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("GlobalAveragePool", op.name, inputs)


def _add(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("Add", op.name, inputs)


def _mul(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("Mul", op.name, inputs)


def _hswish(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("HardSwish", op.name, inputs)


def _swish(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("Mul", op.name, [*inputs, w.node("Sigmoid", f"{op.name}.gate", inputs)])


def _sigmoid(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    return w.node("Sigmoid", op.name, inputs)


def _gate(w: GraphWriter, op: Op, inputs: list[str]) -> str:
    """Of integers: ``x / 6 + 1/2``, which the output's range clips to [0, 1]."""
    (x,) = op.inputs
    part = w.node("DequantizeLinear", f"{op.name}.x", [w.integers[x], *w.qparams(f"{op.name}.x", sixth(w.qparams_of[x]))])
    added = [
        w.constant(f"{op.name}.half", w.integer(HALF)),
        *w.qparams(f"{op.name}.half", half(w.qparams_of[op.name])),
    ]
    return w.node("Add", op.name, [part, w.node("DequantizeLinear", f"{op.name}.half.dq", added)])


KINDS: dict[str, Emit] = {
    "conv": _conv,
    "depthwise": _conv,
    "maxpool": _maxpool,
    "mean": _mean,
    "add": _add,
    "mul": _mul,
    "hswish": _hswish,
    "swish": _swish,
    "hsigmoid": _gate,
    "sigmoid": _sigmoid,
}


#: Where a fused activation of FP32 clips at, from 0. A hard sigmoid's x is ``x / 6 + 1/2`` already: :func:`_float_operands`.
MOST = {"relu6": 6, "hsigmoid": 1}


def _fused(w: GraphWriter, act: str, name: str, x: str) -> str:
    if act == "relu":
        return w.node("Relu", name, [x])
    ends = w.constant("clip.min", np.float32(0)), w.constant(f"{act}.max", np.float32(MOST[act]))
    return w.node("Clip", name, [x, *ends])


def write_int8(
    model: IntegerModel,
    batch: int | None = 1,
    labels: Sequence[str] = (),
    given: FileInput | None = None,
    probabilities: bool = False,
) -> bytes:
    """The QDQ model: float32 ``input`` ``[batch, C, R, R]`` to float32 ``logits`` ``[batch, classes]``.

    ``batch`` None: any. ``labels``: the classes' names, one a line in the metadata entry ``labels``. ``given``: what the file
    takes, which the metadata tell; pixels are uint8, and the input tensor's integers (but in a symmetric model: there they are
    normalized first). ``probabilities``: the softmax is the first output, before the logits. The integers of a tensor are
    named ``<tensor>.q``, pixels ``input``. The bytes depend on the arguments alone.
    """
    w = GraphWriter(model.padding, model.qparams, model.symmetric)
    values = {INPUT: _enter(w, given)}
    for op in model.graph.ops:
        inputs = [values[name] for name in op.inputs]
        if op.has_weight:
            inputs += _integer_operands(w, op, model)
        y, qparams = KINDS[op.kind](w, op, inputs), model.qparams[op.name]
        if w.signed and least(op, qparams):
            y = w.node("Relu", f"{op.name}.relu", [w.quantize(f"{op.name}.before", y, qparams)])
        values[op.name] = w.quantize(op.name, y, qparams)
    return finish(w, model.graph, values, batch, labels, given, probabilities)


def _enter(w: GraphWriter, given: FileInput | None) -> str:
    """The input tensor. Pixels are its integers; where these are signed, it is quantized from normalized pixels."""
    if given is None or not given.pixels:
        return w.quantize(INPUT, INPUT, w.qparams_of[INPUT])
    if w.signed:
        return w.quantize(INPUT, w.normalized(given), w.qparams_of[INPUT])
    return w.dequantize(INPUT, INPUT, w.qparams_of[INPUT])


def _integer_operands(w: GraphWriter, op: Op, model: IntegerModel) -> list[str]:
    """Weight (int8, a scale per output channel) and bias (int32), dequantized; where integers are signed, the bias as
    float32."""
    weight = [
        w.constant(f"{op.name}.weight", model.weights[op.name]),
        w.constant(f"{op.name}.weight_scale", model.weight_scales[op.name]),
        w.constant(f"{op.name}.weight_zero", np.zeros(op.cout, np.int8)),
    ]
    dequantized = w.node("DequantizeLinear", f"{op.name}.weight.dq", weight, axis=0)
    if w.signed:
        return [dequantized, w.constant(f"{op.name}.bias", model.biases[op.name].astype(np.float32) * model.bias_scale(op))]
    bias = [
        w.constant(f"{op.name}.bias", model.biases[op.name]),
        w.constant(f"{op.name}.bias_scale", model.bias_scale(op)),
    ]
    return [dequantized, w.node("DequantizeLinear", f"{op.name}.bias.dq", bias, axis=0)]


def write_fp32(
    model: FloatModel,
    batch: int | None = 1,
    labels: Sequence[str] = (),
    given: FileInput | None = None,
    probabilities: bool = False,
) -> bytes:
    """The same subnet in full precision, input and output as in :func:`write_int8`; pixels are normalized first."""
    w = GraphWriter(model.padding)
    values = {INPUT: w.normalized(given) if given is not None and given.pixels else INPUT}
    for op in model.graph.ops:
        inputs = [values[name] for name in op.inputs]
        if op.has_weight:
            inputs += _float_operands(w, op, model)
        y = KINDS[op.kind](w, op, inputs)
        values[op.name] = _fused(w, op.act, f"{op.name}.{op.act}", y) if op.act else y
    return finish(w, model.graph, values, batch, labels, given, probabilities)


def _float_operands(w: GraphWriter, op: Op, model: FloatModel) -> list[str]:
    """Weight and bias; of a gate, those that give ``x / 6 + 1/2``."""
    weight, bias = model.weights[op.name], model.biases[op.name]
    if op.act == "hsigmoid":
        weight, bias = weight / np.float32(6), bias / np.float32(6) + np.float32(0.5)
    return [w.constant(f"{op.name}.weight", weight), w.constant(f"{op.name}.bias", bias)]
