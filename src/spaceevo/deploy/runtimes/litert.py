"""What else LiteRT tells of our files: every op's integers, and what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from spaceevo.deploy.files.tflite_graph import IDENTIFIER, INT8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.model import Inspection, IntegerModel
from spaceevo.deploy.integer.reference import quantize
from spaceevo.latency.runtimes.litert import channels_first, invoke, real_values
from spaceevo.latency.runtimes.litert import load as interpreter
from spaceevo.latency.runtimes.litert import run_batches as run_batches
from spaceevo.space.graph import INPUT


def record_ops(model: IntegerModel, images: np.ndarray, xnnpack: bool = True) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``, of a file that puts them all out."""
    outputs = invoke(interpreter(write_tflite(model, every_op=True), xnnpack=xnnpack), images)[1:]
    record = {op.name: _unsigned(y) for op, y in zip(model.graph.ops, outputs, strict=True)}
    return {model.graph.input.name: quantize(images, model.qparams[model.graph.input.name]), **record}


def inspect(file: bytes, ops: Sequence[str], images: np.ndarray) -> Inspection:
    """What a file of ours holds, and the output integers of its ``ops`` over ``images``, by a copy that puts them out.

    Raises:
        KeyError: the file has no such op.
    """
    model = tfl.ModelT.InitFromPackedBuf(file, 0)
    (graph,) = model.subgraphs
    index = {tensor.name.decode(): i for i, tensor in enumerate(graph.tensors)}
    qparams, real = {}, dict[str, dict[str, np.ndarray]](weight={}, bias={})
    for name in (INPUT, *ops):
        held = graph.tensors[index[name]].quantization
        qparams[name] = float(held.scale[0]), int(held.zeroPoint[0]) + INT8
        for kind, dtype in (("weight", np.int8), ("bias", np.int32)):
            if f"{name}.{kind}" in index:
                real[kind][name] = _constant(model, graph.tensors[index[f"{name}.{kind}"]], dtype)
    graph.outputs = [graph.outputs[-1], *(index[name] for name in ops)]
    builder = flatbuffers.Builder(2 * len(file))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    running = interpreter(bytes(builder.Output()))
    logits, *outputs = invoke(running, images)
    integers = {name: _unsigned(y) for name, y in zip(ops, outputs, strict=True)}
    return Inspection(qparams, real["weight"], real["bias"], integers, real_values(running.get_output_details()[0], logits))


def _constant(model: Any, tensor: Any, dtype: type) -> np.ndarray:
    """The real values of a weight or bias, its channels first."""
    integers = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(dtype).reshape(tensor.shape)
    scales = np.asarray(tensor.quantization.scale, np.float32)
    if integers.ndim == 1:
        return integers * scales
    last = tensor.quantization.quantizedDimension == 3  # of a depthwise convolution: [1, k, k, C]
    return integers.transpose((3, 0, 1, 2) if last else (0, 3, 1, 2)) * scales[:, None, None, None]


def _unsigned(y: np.ndarray) -> np.ndarray:
    return (channels_first(y).astype(np.int16) + INT8).astype(np.uint8)
