"""Writes an integer or a float model as ONNX: one function per kind of op, shared by INT8 (QDQ) and FP32.

In the QDQ form every op computes in float between DequantizeLinear and QuantizeLinear nodes that carry the trained scales
and zero points; a runtime fuses each such group into one integer kernel. A fused activation needs no node there: it is the
range of the output's QuantizeLinear. The hard-sigmoid gate is an addition to a sixth of x: x's own integers, dequantized
with a sixth of its scale. In FP32 the weights and bias before it give the gate itself, and what is left is a Clip to [0, 1]: a
product with a HardSigmoid is what OpenCV takes for a hard-swish, whatever the HardSigmoid is of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.integer.arithmetic import HALF, HALF_QPARAMS, sixth
from spaceevo.deploy.integer.model import FloatModel, IntegerModel, QParams
from spaceevo.latency.runtimes.ort import OUTPUT
from spaceevo.space.graph import INPUT, Graph, Op

OPSET = 17
IR_VERSION = 8
SOFTMAX = "probabilities"
LABELS = "labels"


@dataclass
class _Writer:
    """Nodes and initializers of the ONNX graph being written; a node's only output carries its name."""

    padding: str
    qparams_of: Mapping[str, QParams] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def qparams(self, name: str, qparams: QParams) -> list[str]:
        """Scale and zero point of an activation tensor, as constants."""
        scale, zero = qparams
        return [self.constant(f"{name}.scale", np.float32(scale)), self.constant(f"{name}.zero", np.uint8(zero))]

    def quantize(self, name: str, value: str, qparams: QParams) -> str:
        """``value`` rounded to ``name``'s grid: a QuantizeLinear, DequantizeLinear pair."""
        return self.dequantize(name, self.node("QuantizeLinear", f"{name}.q", [value, *self.qparams(name, qparams)]), qparams)

    def dequantize(self, name: str, q: str, qparams: QParams) -> str:
        """The real values of the integers ``q``, which are ``name``'s."""
        self.integers[name] = q
        return self.node("DequantizeLinear", f"{name}.dq", [q, *self.qparams(name, qparams)])


Emit = Callable[[_Writer, Op, list[str]], str]


def _window(w: _Writer, op: Op) -> dict[str, list[int]]:
    before, after = op.pads(w.padding)
    return dict(kernel_shape=[op.kernel] * 2, strides=[op.stride] * 2, pads=[before, before, after, after])


def _conv(w: _Writer, op: Op, inputs: list[str]) -> str:
    groups = op.cout if op.kind == "depthwise" else 1
    return w.node("Conv", op.name, inputs, group=groups, **_window(w, op))


def _maxpool(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("MaxPool", op.name, inputs, **_window(w, op))


def _mean(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("GlobalAveragePool", op.name, inputs)


def _add(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("Add", op.name, inputs)


def _mul(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("Mul", op.name, inputs)


def _hswish(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("HardSwish", op.name, inputs)


def _swish(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("Mul", op.name, [*inputs, w.node("Sigmoid", f"{op.name}.gate", inputs)])


def _sigmoid(w: _Writer, op: Op, inputs: list[str]) -> str:
    return w.node("Sigmoid", op.name, inputs)


def _gate(w: _Writer, op: Op, inputs: list[str]) -> str:
    """Of integers: ``x / 6 + 1/2``, which the output's range clips to [0, 1]."""
    (x,) = op.inputs
    part = w.node("DequantizeLinear", f"{op.name}.x", [w.integers[x], *w.qparams(f"{op.name}.x", sixth(w.qparams_of[x]))])
    half = [w.constant(f"{op.name}.half", np.uint8(HALF)), *w.qparams(f"{op.name}.half", HALF_QPARAMS)]
    return w.node("Add", op.name, [part, w.node("DequantizeLinear", f"{op.name}.half.dq", half)])


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


def _fused(w: _Writer, act: str, name: str, x: str) -> str:
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
    takes, which the metadata tell; pixels are uint8, and the input tensor's integers. ``probabilities``: the softmax is the
    first output, before the logits. The integers of a tensor are named ``<tensor>.q``, pixels ``input``. The bytes depend on
    the arguments alone.
    """
    w = _Writer(model.padding, model.qparams)
    enter = w.dequantize if _pixels(given) else w.quantize
    values = {INPUT: enter(INPUT, INPUT, model.qparams[INPUT])}
    for op in model.graph.ops:
        inputs = [values[name] for name in op.inputs]
        if op.has_weight:
            inputs += _integer_operands(w, op, model)
        values[op.name] = w.quantize(op.name, KINDS[op.kind](w, op, inputs), model.qparams[op.name])
    return _finish(w, model.graph, values, batch, labels, given, probabilities)


def _pixels(given: FileInput | None) -> bool:
    return given is not None and given.pixels


def _integer_operands(w: _Writer, op: Op, model: IntegerModel) -> list[str]:
    """Weight (int8, a scale per output channel) and bias (int32), dequantized."""
    weight = [
        w.constant(f"{op.name}.weight", model.weights[op.name]),
        w.constant(f"{op.name}.weight_scale", model.weight_scales[op.name]),
        w.constant(f"{op.name}.weight_zero", np.zeros(op.cout, np.int8)),
    ]
    bias = [
        w.constant(f"{op.name}.bias", model.biases[op.name]),
        w.constant(f"{op.name}.bias_scale", model.bias_scale(op)),
    ]
    return [
        w.node("DequantizeLinear", f"{op.name}.weight.dq", weight, axis=0),
        w.node("DequantizeLinear", f"{op.name}.bias.dq", bias, axis=0),
    ]


def write_fp32(
    model: FloatModel,
    batch: int | None = 1,
    labels: Sequence[str] = (),
    given: FileInput | None = None,
    probabilities: bool = False,
) -> bytes:
    """The same subnet in full precision, input and output as in :func:`write_int8`; pixels are normalized first."""
    w = _Writer(model.padding)
    values = {INPUT: _normalized(w, given) if given is not None and given.pixels else INPUT}
    for op in model.graph.ops:
        inputs = [values[name] for name in op.inputs]
        if op.has_weight:
            inputs += _float_operands(w, op, model)
        y = KINDS[op.kind](w, op, inputs)
        values[op.name] = _fused(w, op.act, f"{op.name}.{op.act}", y) if op.act else y
    return _finish(w, model.graph, values, batch, labels, given, probabilities)


def _float_operands(w: _Writer, op: Op, model: FloatModel) -> list[str]:
    """Weight and bias; of a gate, those that give ``x / 6 + 1/2``."""
    weight, bias = model.weights[op.name], model.biases[op.name]
    if op.act == "hsigmoid":
        weight, bias = weight / np.float32(6), bias / np.float32(6) + np.float32(0.5)
    return [w.constant(f"{op.name}.weight", weight), w.constant(f"{op.name}.bias", bias)]


def _normalized(w: _Writer, given: FileInput) -> str:
    """``(pixel - 255 mean) / (255 std)`` a channel, in float32."""
    mean, std = (255 * np.array(values)[:, None, None] for values in (given.mean, given.std))
    pixels = w.node("Cast", f"{INPUT}.float", [INPUT], to=TensorProto.FLOAT)
    centred = w.node("Sub", f"{INPUT}.centred", [pixels, w.constant(f"{INPUT}.mean", mean.astype(np.float32))])
    return w.node("Mul", f"{INPUT}.normalized", [centred, w.constant(f"{INPUT}.gain", (1 / std).astype(np.float32))])


def _finish(
    w: _Writer,
    graph: Graph,
    values: dict[str, str],
    batch: int | None,
    labels: Sequence[str],
    given: FileInput | None,
    probabilities: bool,
) -> bytes:
    """Flatten the last op's output to ``logits``, check and serialize."""
    x, y = graph.input, graph.output
    w.node("Flatten", OUTPUT, [values[y.name]], axis=1)
    rows = "batch" if batch is None else batch
    names = [OUTPUT]
    if probabilities:
        names.insert(0, w.node("Softmax", SOFTMAX, [OUTPUT], axis=1))
    kind = TensorProto.UINT8 if _pixels(given) else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(INPUT, kind, [rows, x.channels, x.hw, x.hw])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, y.channels * y.hw**2]) for name in names]
    body = helper.make_graph(w.nodes, "spaceevo", inputs, outputs, list(w.initializers.values()))
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="spaceevo")
    told = {LABELS: "\n".join(labels)} if labels else {}
    if given is not None:
        told |= given.words("NCHW") | {"output": f"{', '.join(names)}: one a class, in the order of the labels"}
    if told:
        helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
