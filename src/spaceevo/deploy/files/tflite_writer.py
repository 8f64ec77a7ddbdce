"""Writes an integer model as TFLite, directly with the schema's generated classes: one function per kind of op.

Everything is int8: a uint8 integer ``q`` with zero point ``z`` becomes ``q - 128`` with ``z - 128``, of the same value.
Images are ``[N, H, W, C]``. A fused activation is the range of the output's scale and zero point. Every op is one that
XNNPACK runs, in the form in which it rounds as the reference does: the mean is MEAN, and the hard-sigmoid gate
``ADD(MUL(x, 1/6), 1/2)``, where the product relabels x's integers exactly. Padding other than TFLite's SAME is an op of its
own, which XNNPACK fuses into the convolution. A symmetric model has zero points of 0, and so a RELU within ops that have an
activation, and a sigmoid in float32, for that of int8 has the zero point -128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.tflite_graph import INT8, IntegerWriter, Operator, pad_constant, windowed
from spaceevo.deploy.files.tflite_metadata import METADATA, described, with_labels
from spaceevo.deploy.integer.arithmetic import HALF, half, sixth
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.space.graph import INPUT, Graph, Op

IMAGE, OUTPUT = "image", "logits"
LABELS = "labels"
#: 127 times this scale is 1/6: multiplying by it gives x / 6, of which the integers are x's.
SIXTH, SIXTH_QPARAMS = 127, (float(np.float32(1 / (6 * 127))), INT8)


Emit = Callable[[IntegerWriter, Op, list[int]], None]


def _conv(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    depthwise = op.kind == "depthwise"
    weights = w.model.weights[op.name].transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    t = w.constant(f"{op.name}.weight", weights, tfl.TensorType.INT8)
    t.quantization = w.quantization(w.model.weight_scales[op.name], 0, 3 if depthwise else 0)
    t = w.constant(f"{op.name}.bias", w.model.biases[op.name])
    t.quantization = w.quantization(w.model.bias_scale(op), 0)
    options = tfl.DepthwiseConv2DOptionsT() if depthwise else tfl.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = 1
    options.fusedActivationFunction = w.fused(op)
    x = _window(w, op, inputs[0], options, w.model.qparams[op.inputs[0]][1])
    code = Operator.DEPTHWISE_CONV_2D if depthwise else Operator.CONV_2D
    w.operator(code, 3, [x, w.index[f"{op.name}.weight"], w.index[f"{op.name}.bias"]], w.output(op), options)


def _maxpool(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    options = tfl.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = op.kernel
    x = _window(w, op, inputs[0], options, 0)
    w.operator(Operator.MAX_POOL_2D, 2, [x], w.output(op), options)


def _window(w: IntegerWriter, op: Op, x: int, options: Any, fill: int) -> int:
    """Set stride and padding in ``options``; the tensor to read: x, or x padded with the integer ``fill``."""
    pads = windowed(options, op, w.model.padding)
    if pads is None:
        return x
    name, qparams = f"{op.name}.padded", w.model.qparams[op.inputs[0]]
    hw = op.in_hw + sum(pads)
    padded = w.activation(name, (1, hw, hw, op.cin), qparams)
    by = pad_constant(w, f"{name}.by", pads)
    if fill == qparams[1]:
        return w.operator(Operator.PAD, 2, [x, by], padded, tfl.PadOptionsT())
    t = w.constant(f"{name}.fill", np.array([fill - INT8], np.int8), tfl.TensorType.INT8)
    t.quantization = w.quantization([qparams[0]], qparams[1] - INT8)
    return w.operator(Operator.PADV2, 2, [x, by, w.index[f"{name}.fill"]], padded, tfl.PadV2OptionsT())


def _mean(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    w.constant(f"{op.name}.axes", np.array([1, 2], np.int32))
    options = tfl.ReducerOptionsT()
    options.keepDims = True
    w.operator(Operator.MEAN, 2, [*inputs, w.index[f"{op.name}.axes"]], w.output(op), options)


def _add(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    w.operator(Operator.ADD, 2, inputs, w.output(op), _adding(w, op))


def _adding(w: IntegerWriter, op: Op) -> Any:
    options = tfl.AddOptionsT()
    options.fusedActivationFunction = w.fused(op)
    return options


def _mul(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    w.operator(Operator.MUL, 2, inputs, w.output(op), tfl.MulOptionsT())


def _hsigmoid(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    part = w.activation(f"{op.name}.sixth", (1, op.in_hw, op.in_hw, op.cin), sixth(w.model.qparams[op.inputs[0]]))
    factor = w.scalar(f"{op.name}.factor", SIXTH + INT8, SIXTH_QPARAMS)
    w.operator(Operator.MUL, 2, [*inputs, factor], part, tfl.MulOptionsT())
    added = w.scalar(f"{op.name}.half", HALF, half(w.model.qparams[op.name]))
    w.operator(Operator.ADD, 2, [part, added], w.output(op), _adding(w, op))


def _sigmoid(w: IntegerWriter, op: Op, inputs: list[int]) -> None:
    if not w.model.symmetric:
        w.operator(Operator.LOGISTIC, 2, inputs, w.output(op))
        return
    x, y = (w.real(f"{op.name}.{end}", (1, op.in_hw, op.in_hw, op.cin)) for end in ("x", "y"))
    w.operator(Operator.DEQUANTIZE, 2, inputs, x, tfl.DequantizeOptionsT())
    w.operator(Operator.LOGISTIC, 1, [x], y)
    w.operator(Operator.QUANTIZE, 1, [y], w.output(op), tfl.QuantizeOptionsT())


KINDS: dict[str, Emit] = {
    "conv": _conv,
    "depthwise": _conv,
    "maxpool": _maxpool,
    "mean": _mean,
    "add": _add,
    "mul": _mul,
    "hsigmoid": _hsigmoid,
    "sigmoid": _sigmoid,
}


def write_tflite(
    model: IntegerModel,
    float_io: bool = False,
    labels: Sequence[str] = (),
    every_op: bool = False,
    given: FileInput | None = None,
    probabilities: bool = False,
) -> bytes:
    """The full-integer model: int8 ``input`` ``[1, R, R, C]`` to int8 ``logits`` ``[1, classes]``; the interpreter may
    resize the batch. A graph that does not end in ``[1, 1]`` gives its feature map.

    ``float_io``: float32 instead, with a Quantize and a Dequantize op. ``labels``: the classes' names, one a line in the
    metadata entry ``labels``. ``every_op``: the output of every op is one of the model's too, for comparisons. ``given``: what
    the file takes, which the metadata tell; pixels are uint8 ``image`` ``[1, R, R, C]``, of which a Quantize op makes the int8
    of equal value (in a symmetric model, of normalized pixels). ``probabilities``: the softmax is the first output, before the
    logits; both are float32.
    """
    w = IntegerWriter(model=model)
    graph = model.graph
    first = _enter(w, float_io, given)
    for op in graph.ops:
        KINDS[op.kind](w, op, [w.index[name] for name in op.inputs])
    outputs = [_logits(w, graph, float_io or probabilities)]
    if probabilities:
        outputs.insert(0, w.softmax(outputs[0]))
    if every_op:
        outputs += [w.index[op.name] for op in graph.ops]
    entries = {LABELS: "\n".join(labels).encode()} if labels else {}
    if given is not None:
        entries[METADATA] = described(given, len(outputs), labels)
    file = w.finish(first, outputs, entries)
    return file if given is None else with_labels(file, labels)


def _enter(w: IntegerWriter, float_io: bool, given: FileInput | None) -> int:
    """The tensor that a file is given, of which ``input`` is made. Pixels are its integers, less 128; where its zero point is
    0, it is quantized from normalized pixels."""
    x, qparams = w.model.graph.input, w.model.qparams[INPUT]
    shape, real = (1, x.hw, x.hw, x.channels), None
    if given is not None and given.pixels:
        image = w.tensor(IMAGE, shape, tfl.TensorType.UINT8)
        if w.model.symmetric:
            real = w.normalized(given, w.index[IMAGE], f"{INPUT}.normalized")
        else:
            real, image.quantization = w.index[IMAGE], w.quantization([qparams[0]], qparams[1])
    elif float_io:
        real = w.real(IMAGE, shape)
    held = w.activation(INPUT, shape, qparams)
    if real is None:
        return held
    w.operator(Operator.QUANTIZE, 1, [real], held, tfl.QuantizeOptionsT())
    return w.index[IMAGE]


def _logits(w: IntegerWriter, graph: Graph, float_io: bool) -> int:
    y, qparams = graph.output, w.model.output_qparams
    last, shape = w.index[y.name], [1, y.hw, y.hw, y.channels]
    if y.hw == 1:
        shape = [1, y.channels]
        flat = w.activation(f"{y.name}.flat" if float_io else OUTPUT, shape, qparams)
        last = w.flat(f"{y.name}.shape", last, flat, y.channels)
    if float_io:
        last = w.operator(Operator.DEQUANTIZE, 2, [last], w.real(OUTPUT, shape), tfl.DequantizeOptionsT())
    return last


def read_labels(file: bytes) -> list[str]:
    """The class names in a file of ours, none where it has none."""
    model = tfl.ModelT.InitFromPackedBuf(file, 0)
    for entry in model.metadata or []:
        if entry.name == LABELS.encode():
            return bytes(model.buffers[entry.buffer].data).decode().split("\n")
    return []
