"""Writes a float model as TFLite: the same subnet in full precision, to time INT8 against in the same runtime.

Images are ``[N, H, W, C]``. ReLU and ReLU6 are fused; a hard sigmoid is ``relu6(x + 3) / 6``, hard-swish an op of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.tflite_graph import FLOAT32, SINGLE, GraphWriter, Operator, pad_constant, windowed
from spaceevo.deploy.files.tflite_writer import IMAGE, LABELS, OUTPUT
from spaceevo.deploy.integer.model import FloatModel
from spaceevo.space.graph import INPUT, Op

FUSED = {
    None: tfl.ActivationFunctionType.NONE,
    "relu": tfl.ActivationFunctionType.RELU,
    "relu6": tfl.ActivationFunctionType.RELU6,
}


@dataclass
class FloatWriter(GraphWriter):
    """The TFLite graph of a float model."""

    model: FloatModel = field(kw_only=True)

    def output(self, op: Op, name: str) -> int:
        """A tensor of the op's output's shape."""
        return self.real(name, (1, op.out_hw, op.out_hw, op.cout))

    def scalar(self, name: str, value: float) -> int:
        """A constant that broadcasts."""
        self.constant(name, np.full(SINGLE, value, np.float32), FLOAT32)
        return self.index[name]


Emit = Callable[[FloatWriter, Op, list[int], str, Any], int]


def _conv(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    depthwise = op.kind == "depthwise"
    w.constant(f"{op.name}.weight", w.model.weights[op.name].transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)), FLOAT32)
    w.constant(f"{op.name}.bias", w.model.biases[op.name], FLOAT32)
    options = tfl.DepthwiseConv2DOptionsT() if depthwise else tfl.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = 1
    options.fusedActivationFunction = act
    x = _window(w, op, inputs[0], options)
    code = Operator.DEPTHWISE_CONV_2D if depthwise else Operator.CONV_2D
    return w.operator(code, 1, [x, w.index[f"{op.name}.weight"], w.index[f"{op.name}.bias"]], w.output(op, name), options)


def _maxpool(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    options = tfl.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = op.kernel
    options.fusedActivationFunction = act
    return w.operator(Operator.MAX_POOL_2D, 1, [_window(w, op, inputs[0], options)], w.output(op, name), options)


def _window(w: FloatWriter, op: Op, x: int, options: Any) -> int:
    """Set stride and padding in ``options``; the tensor to read: x, or x padded with 0."""
    pads = windowed(options, op, w.model.padding)
    if pads is None:
        return x
    name, hw = f"{op.name}.padded", op.in_hw + sum(pads)
    by = pad_constant(w, f"{name}.by", pads)
    return w.operator(Operator.PAD, 1, [x, by], w.real(name, (1, hw, hw, op.cin)), tfl.PadOptionsT())


def _mean(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    w.constant(f"{op.name}.axes", np.array([1, 2], np.int32))
    options = tfl.ReducerOptionsT()
    options.keepDims = True
    return w.operator(Operator.MEAN, 1, [*inputs, w.index[f"{op.name}.axes"]], w.output(op, name), options)


def _add(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    options = tfl.AddOptionsT()
    options.fusedActivationFunction = act
    return w.operator(Operator.ADD, 1, inputs, w.output(op, name), options)


def _mul(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    options = tfl.MulOptionsT()
    options.fusedActivationFunction = act
    return w.operator(Operator.MUL, 1, inputs, w.output(op, name), options)


def _hswish(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    return w.operator(Operator.HARD_SWISH, 1, inputs, w.output(op, name))


def _sigmoid(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    return w.operator(Operator.LOGISTIC, 1, inputs, w.output(op, name))


def _swish(w: FloatWriter, op: Op, inputs: list[int], name: str, act: Any) -> int:
    gate = _sigmoid(w, op, inputs, f"{op.name}.gate", None)
    return w.operator(Operator.MUL, 1, [*inputs, gate], w.output(op, name), tfl.MulOptionsT())


KINDS: dict[str, Emit] = {
    "conv": _conv,
    "depthwise": _conv,
    "maxpool": _maxpool,
    "mean": _mean,
    "add": _add,
    "mul": _mul,
    "hswish": _hswish,
    "swish": _swish,
    "sigmoid": _sigmoid,
}


def _hard_sigmoid(w: FloatWriter, op: Op, x: int) -> int:
    options = tfl.AddOptionsT()
    options.fusedActivationFunction = FUSED["relu6"]
    above = w.operator(Operator.ADD, 1, [x, w.scalar(f"{op.name}.three", 3.0)], w.output(op, f"{op.name}.above"), options)
    sixth = w.scalar(f"{op.name}.sixth", 1 / 6)
    return w.operator(Operator.MUL, 1, [above, sixth], w.output(op, op.name), tfl.MulOptionsT())


def write_float_tflite(
    model: FloatModel, labels: Sequence[str] = (), given: FileInput | None = None, probabilities: bool = False
) -> bytes:
    """float32 ``input`` ``[1, R, R, C]`` to float32 ``logits`` ``[1, classes]``; the arguments as in
    :func:`~spaceevo.deploy.files.tflite_writer.write_tflite`, but that the file tells nothing of its input: pixels are
    normalized first."""
    w, graph = FloatWriter(model=model), model.graph
    shape = (1, graph.input.hw, graph.input.hw, graph.input.channels)
    if given is not None and given.pixels:
        w.tensor(IMAGE, shape, tfl.TensorType.UINT8)
        first, values = w.index[IMAGE], {INPUT: w.normalized(given, w.index[IMAGE], INPUT)}
    else:
        first = w.real(INPUT, shape)
        values = {INPUT: first}
    for op in graph.ops:
        hard = op.act == "hsigmoid"
        name = f"{op.name}.before" if hard else op.name
        y = KINDS[op.kind](w, op, [values[x] for x in op.inputs], name, FUSED[None if hard else op.act])
        values[op.name] = _hard_sigmoid(w, op, y) if hard else y
    last = graph.output
    outputs = [values[last.name]]
    if last.hw == 1:
        outputs = [w.flat(f"{last.name}.shape", outputs[0], w.real(OUTPUT, [1, last.channels]), last.channels)]
    if probabilities:
        outputs.insert(0, w.softmax(outputs[0]))
    return w.finish(first, outputs, {LABELS: "\n".join(labels).encode()} if labels else {})
