"""A TFLite graph that is being written: its tensors, their scales, and its operators, with the schema's generated classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.integer.model import IntegerModel, QParams, least
from spaceevo.space.graph import INPUT, Op

INT8 = 128  # what a uint8 integer loses
INT32, FLOAT32 = tfl.TensorType.INT32, tfl.TensorType.FLOAT32
Operator = tfl.BuiltinOperator
SINGLE = (1, 1, 1, 1)


VERSION, IDENTIFIER = 3, b"TFL3"
SOFTMAX = "probabilities"


@dataclass
class GraphWriter:
    """Tensors, buffers and operators of the TFLite graph being written; tensors are indices."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [tfl.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[tuple[int, int]] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def tensor(self, name: str, shape: Sequence[int], kind: int = tfl.TensorType.INT8) -> Any:
        """A new tensor ``name``, without a scale."""
        t = tfl.TensorT()
        t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), kind, 0
        self.index[name] = len(self.tensors)
        self.tensors.append(t)
        return t

    def real(self, name: str, shape: Sequence[int]) -> int:
        """A new float32 tensor."""
        self.tensor(name, shape, FLOAT32)
        return self.index[name]

    def constant(self, name: str, value: np.ndarray, kind: int = INT32) -> Any:
        """A new tensor with contents, without a scale."""
        buffer = tfl.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        t = self.tensor(name, value.shape, kind)
        t.buffer = len(self.buffers)
        self.buffers.append(buffer)
        return t

    def operator(self, code: int, version: int, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """``options``: an object of the schema, e.g. ``Conv2DOptionsT``. Returns the ``output``."""
        if (code, version) not in self.codes:
            self.codes.append((code, version))
        o = tfl.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = self.codes.index((code, version)), list(inputs), [output]
        if options is not None:
            o.builtinOptions = options
            o.builtinOptionsType = getattr(tfl.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(o)
        return output

    def flat(self, name: str, x: int, y: int, channels: int) -> int:
        """``x`` ``[N, 1, 1, channels]`` as the tensor ``y`` ``[N, channels]``; ``name``: of the constant that says so."""
        options = tfl.ReshapeOptionsT()
        options.newShape = [-1, channels]
        self.constant(name, np.array(options.newShape, np.int32))
        return self.operator(Operator.RESHAPE, 1, [x, self.index[name]], y, options)

    def softmax(self, logits: int) -> int:
        """The softmax of the ``logits``; both float32."""
        options = tfl.SoftmaxOptionsT()
        options.beta = 1.0
        return self.operator(Operator.SOFTMAX, 1, [logits], self.real(SOFTMAX, self.tensors[logits].shape), options)

    def normalized(self, given: FileInput, pixels: int, name: str) -> int:
        """``pixels``, uint8, as the new tensor ``name``: ``(pixel - 255 mean) / (255 std)`` a channel, in float32."""
        shape = self.tensors[pixels].shape
        x = self.operator(Operator.CAST, 1, [pixels], self.real(f"{INPUT}.float", shape), tfl.CastOptionsT())
        self.constant(f"{INPUT}.mean", 255 * np.array(given.mean, np.float32), FLOAT32)
        self.constant(f"{INPUT}.gain", 1 / (255 * np.array(given.std, np.float32)), FLOAT32)
        x = self.operator(
            Operator.SUB, 1, [x, self.index[f"{INPUT}.mean"]], self.real(f"{INPUT}.centred", shape), tfl.SubOptionsT()
        )
        return self.operator(Operator.MUL, 1, [x, self.index[f"{INPUT}.gain"]], self.real(name, shape), tfl.MulOptionsT())

    def finish(self, x: int, outputs: Sequence[int], entries: Mapping[str, bytes]) -> bytes:
        """The file; ``entries``: its metadata."""
        graph, model = tfl.SubGraphT(), tfl.ModelT()
        graph.name, graph.tensors, graph.operators = b"main", self.tensors, self.operators
        graph.inputs, graph.outputs = [x], list(outputs)
        model.version, model.description, model.subgraphs = VERSION, b"spaceevo", [graph]
        model.operatorCodes = list(self._operator_codes())
        for name, content in entries.items():
            entry, buffer = tfl.MetadataT(), tfl.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            entry.name, entry.buffer = name.encode(), len(self.buffers)
            self.buffers.append(buffer)
            model.metadata = [*(model.metadata or []), entry]
        model.buffers = self.buffers
        builder = flatbuffers.Builder(sum(len(b.data) for b in self.buffers if b.data is not None) + 2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _operator_codes(self) -> Iterator[Any]:
        for code, version in self.codes:
            o = tfl.OperatorCodeT()
            o.builtinCode, o.version = code, version
            o.deprecatedBuiltinCode = min(code, Operator.PLACEHOLDER_FOR_GREATER_OP_CODES)
            yield o


@dataclass
class IntegerWriter(GraphWriter):
    """The same of an integer model's."""

    model: IntegerModel = field(kw_only=True)
    zeros: dict[tuple[int, int], int] = field(default_factory=dict)

    def quantization(self, scales: Sequence[float] | np.ndarray, zero: int, axis: int = 0) -> Any:
        """Scales along an ``axis``, and the zero point of all of them."""
        return Quantization(scales, zero, axis, self.zeros)

    def activation(self, name: str, shape: Sequence[int], qparams: QParams) -> int:
        """An int8 tensor of one scale."""
        self.tensor(name, shape).quantization = self.quantization([qparams[0]], qparams[1] - INT8)
        return self.index[name]

    def scalar(self, name: str, integer: int, qparams: QParams) -> int:
        """An int8 constant that broadcasts."""
        t = self.constant(name, np.full(SINGLE, integer - INT8, np.int8), tfl.TensorType.INT8)
        t.quantization = self.quantization([qparams[0]], qparams[1] - INT8)
        return self.index[name]

    def output(self, op: Op) -> int:
        """The op's output tensor."""
        return self.activation(op.name, (1, op.out_hw, op.out_hw, op.cout), self.model.qparams[op.name])

    def fused(self, op: Op) -> int:
        """The activation within an op: RELU where its output's range does not end at 0."""
        relu = least(op, self.model.qparams[op.name]) > 0
        return int(tfl.ActivationFunctionType.RELU if relu else tfl.ActivationFunctionType.NONE)


def windowed(options: Any, op: Op, padding: str) -> tuple[int, int] | None:
    """Sets stride and padding in the ``options`` of ``op``. Returns the rows before and after that an op of its own has to pad;
    None where TFLite's SAME does it."""
    options.strideH = options.strideW = op.stride
    pads = op.pads(padding)
    same = pads == op.pads("same")
    options.padding = tfl.Padding.SAME if same else tfl.Padding.VALID
    return None if same else pads


def pad_constant(w: GraphWriter, name: str, pads: tuple[int, int]) -> int:
    """How much PAD and PADV2 pad: rows and columns alike."""
    w.constant(name, np.array([[0, 0], pads, pads, [0, 0]], np.int32))
    return w.index[name]


class Quantization(tfl.QuantizationParametersT):
    """Packs equal vectors of zero points once a file (``shared``): they are 8 bytes a channel, of weights and of biases."""

    def __init__(self, scales: Sequence[float] | np.ndarray, zero: int, axis: int, shared: dict[tuple[int, int], int]) -> None:
        super().__init__()
        self.scale, self.quantizedDimension = np.asarray(scales, np.float32), axis
        self.zero, self.shared = zero, shared

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Where it lies in the file."""
        scale, key = builder.CreateNumpyVector(self.scale), (self.zero, len(self.scale))
        if key not in self.shared:
            self.shared[key] = builder.CreateNumpyVector(np.full(len(self.scale), self.zero, np.int64))
        tfl.QuantizationParametersStart(builder)
        tfl.QuantizationParametersAddScale(builder, scale)
        tfl.QuantizationParametersAddZeroPoint(builder, self.shared[key])
        tfl.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return int(tfl.QuantizationParametersEnd(builder))
