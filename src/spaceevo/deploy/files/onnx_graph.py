"""An ONNX graph that is being written: its nodes, constants and quantizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.integer.model import MIDDLE, QParams
from spaceevo.latency.runtimes.ort import OUTPUT
from spaceevo.space.graph import INPUT, Graph

OPSET = 17
IR_VERSION = 8
SOFTMAX = "probabilities"
LABELS = "labels"


@dataclass
class GraphWriter:
    """Nodes and initializers of the ONNX graph being written; a node's only output carries its name. ``signed``: integers of
    activations are int8, less 128."""

    padding: str
    qparams_of: Mapping[str, QParams] = field(default_factory=dict)
    signed: bool = False
    integers: dict[str, str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def integer(self, value: int) -> np.generic:
        """An unsigned integer of an activation tensor as the file holds it."""
        return np.int8(value - MIDDLE) if self.signed else np.uint8(value)

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A new node; returns its output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """A new initializer."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def qparams(self, name: str, qparams: QParams) -> list[str]:
        """Scale and zero point of an activation tensor, as constants."""
        scale, zero = qparams
        return [self.constant(f"{name}.scale", np.float32(scale)), self.constant(f"{name}.zero", self.integer(zero))]

    def quantize(self, name: str, value: str, qparams: QParams) -> str:
        """``value`` rounded to ``name``'s grid: a QuantizeLinear, DequantizeLinear pair."""
        return self.dequantize(name, self.node("QuantizeLinear", f"{name}.q", [value, *self.qparams(name, qparams)]), qparams)

    def dequantize(self, name: str, q: str, qparams: QParams) -> str:
        """The real values of the integers ``q``, which are ``name``'s."""
        self.integers[name] = q
        return self.node("DequantizeLinear", f"{name}.dq", [q, *self.qparams(name, qparams)])

    def normalized(self, given: FileInput) -> str:
        """Pixels as ``(pixel - 255 mean) / (255 std)`` a channel, in float32."""
        mean, std = (255 * np.array(values)[:, None, None] for values in (given.mean, given.std))
        pixels = self.node("Cast", f"{INPUT}.float", [INPUT], to=TensorProto.FLOAT)
        centred = self.node("Sub", f"{INPUT}.centred", [pixels, self.constant(f"{INPUT}.mean", mean.astype(np.float32))])
        return self.node("Mul", f"{INPUT}.normalized", [centred, self.constant(f"{INPUT}.gain", (1 / std).astype(np.float32))])


def has_pixels(given: FileInput | None) -> bool:
    """Whether a file takes pixels."""
    return given is not None and given.pixels


def finish(
    w: GraphWriter,
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
    kind = TensorProto.UINT8 if has_pixels(given) else TensorProto.FLOAT
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
