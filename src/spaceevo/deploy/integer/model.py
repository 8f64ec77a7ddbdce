"""What a runtime computes, as plain data: the integer model that the writers serialize, and its float counterpart.

An activation integer ``q`` (uint8) of tensor ``t`` stands for ``(q - zero) * scale`` with ``(scale, zero) = qparams[t]``;
a weight integer of output channel ``c`` for ``q * weight_scales[op][c]``; a bias integer for ``q * sx * sw[c]``. A symmetric
tensor has the zero point 128 here: files hold its integers as int8, less 128.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.nn.scheme import ACT_MAX as ACT_MAX
from spaceevo.nn.scheme import MIDDLE as MIDDLE
from spaceevo.nn.scheme import Quantizer
from spaceevo.space.graph import FUSED, Graph, Op, Tensor

QParams = tuple[float, int]
#: The gates that ``hswish`` and ``swish`` consist of, beside the product.
GATES = {"hswish": "hsigmoid", "swish": "sigmoid"}
FORMAT = "spaceevo integer model 1"
ARRAYS = ("weights", "weight_scales", "biases")


@dataclass(frozen=True)
class IntegerModel:
    """A lowered op graph with integer contents; BatchNorm is folded, fused activations are the output's range."""

    graph: Graph
    """Of kinds conv, depthwise, mean, maxpool, mul, add, hsigmoid and sigmoid: see :func:`lower`."""
    weights: dict[str, np.ndarray]
    """Per op, int8 ``[cout, cin / groups, kernel, kernel]``."""
    weight_scales: dict[str, np.ndarray]
    """Per op, float32 ``[cout]``."""
    biases: dict[str, np.ndarray]
    """Per op, int32 ``[cout]``."""
    qparams: dict[str, QParams]
    """Per tensor (``input`` and every op's output), scale (a float32's value) and zero point."""
    padding: str = "symmetric"

    def bias_scale(self, op: Op) -> np.ndarray:
        """The grid of the bias, ``sx * sw[c]``: float32 ``[cout]``."""
        return np.float32(self.qparams[op.inputs[0]][0]) * self.weight_scales[op.name]

    @property
    def output_qparams(self) -> QParams:
        """Scale and zero point of the logits."""
        return self.qparams[self.graph.output.name]

    @property
    def symmetric(self) -> bool:
        """Whether all tensors are: files then hold zero points of 0."""
        return all(zero == MIDDLE for _, zero in self.qparams.values())


@dataclass(frozen=True)
class Inspection:
    """What stands in an INT8 file and what its ops give, by our names: read from the file itself, whatever wrote it."""

    qparams: dict[str, QParams]
    """Scale and zero point (as of uint8) of the input and of every op's output."""
    weights: dict[str, np.ndarray]
    """Per op, real values: float32 ``[cout, cin / groups, kernel, kernel]``."""
    biases: dict[str, np.ndarray]
    """Per op, real values: float32 ``[cout]``."""
    integers: dict[str, np.ndarray]
    """Per op, its output over some images: uint8 ``[N, C, H, W]``."""
    logits: np.ndarray
    """What leaves the file for the same images: float32 ``[N, classes]``."""


@dataclass(frozen=True)
class FloatModel:
    """The same subnet in full precision, BatchNorm folded: what an FP32 runtime executes."""

    graph: Graph
    weights: dict[str, np.ndarray]
    """Per op, float32 ``[cout, cin / groups, kernel, kernel]``."""
    biases: dict[str, np.ndarray]
    """Per op, float32 ``[cout]``."""
    padding: str = "symmetric"


def gate_qparams(kind: str, quantizer: Quantizer) -> QParams:
    """Scale and zero point of a gate, ``hsigmoid`` or ``sigmoid``."""
    return float(np.float32(quantizer.gate_scale(kind))), quantizer.zero


def least(op: Op, y: QParams) -> int:
    """The least integer that ``op`` gives, of an output of scale and zero point ``y``: a fused activation's is 0's."""
    return y[1] if op.act in FUSED or op.kind == "hsigmoid" else 0


def lower(graph: Graph) -> Graph:
    """``graph`` with every ``hswish`` and ``swish`` as what runtimes have integer kernels for: the op ``<name>.gate``
    (``hsigmoid``: ``clip(x / 6 + 1/2, 0, 1)``, or ``sigmoid``) and the product of it and x, ``<name>``."""
    ops = []
    for op in graph.ops:
        if op.kind in GATES:
            gate = replace(op, name=f"{op.name}.gate", kind=GATES[op.kind])
            ops += [gate, replace(op, kind="mul", inputs=(*op.inputs, gate.name))]
        else:
            ops.append(op)
    return Graph(graph.input, ops)


def save_integer(path: Path, model: IntegerModel) -> None:
    """``model`` as safetensors: arrays ``weights/<op>``, ...; graph, scales and zero points as JSON in the header. The same
    model gives the same bytes."""
    from safetensors.numpy import save

    named = [(f"{kind}/{name}", array) for kind in ARRAYS for name, array in getattr(model, kind).items()]
    arrays = {key: np.ascontiguousarray(array) for key, array in named}  # safetensors writes memory as it lies
    x = model.graph.input
    header = dict(
        format=FORMAT,
        padding=model.padding,
        input=json.dumps([x.name, x.channels, x.hw]),
        ops=json.dumps([asdict(op) for op in model.graph.ops]),
        qparams=json.dumps(model.qparams),
    )
    atomic_write(path, _in_order(save(arrays, header)))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with the texts of its header sorted: the library writes them in an order that changes every time."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def load_integer(path: Path) -> IntegerModel:
    """The model that :func:`save_integer` wrote.

    Raises:
        UserError: the file is missing, truncated or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(f"{path}: no {FORMAT}, but {header.get('format', 'some other safetensors file')}")
            arrays: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in ARRAYS}
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                kind, name = key.split("/", 1)
                arrays[kind][name] = file.get_tensor(key)
        ops = [Op(**{**op, "inputs": tuple(op["inputs"])}) for op in json.loads(header["ops"])]
        qparams = {name: (scale, zero) for name, (scale, zero) in json.loads(header["qparams"]).items()}
        return IntegerModel(
            Graph(Tensor(*json.loads(header["input"])), ops), **arrays, qparams=qparams, padding=header["padding"]
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: truncated or not an integer model ({type(error).__name__})") from None
