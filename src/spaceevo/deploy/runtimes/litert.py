"""The adapter of LiteRT (formerly TFLite): load a file, run images to logits, fetch every op's
integers, read what is in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from spaceevo.deploy.files.tflite_graph import IDENTIFIER, INT8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.model import Inspection, IntegerModel
from spaceevo.deploy.integer.reference import quantize
from spaceevo.latency.measure import random_image
from spaceevo.space.graph import INPUT

RESOLVERS = {True: OpResolverType.BUILTIN, False: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def interpreter(file: bytes | Path, threads: int = 1, xnnpack: bool = True) -> Any:
    """The model in LiteRT; without XNNPACK its ops' other kernels run, whose rounding differs.

    Raises:
        ValueError: not a TFLite file.
    """
    source = dict(model_content=file) if isinstance(file, bytes) else dict(model_path=str(file))
    with _quiet():
        loaded = Interpreter(**source, num_threads=threads, experimental_op_resolver_type=RESOLVERS[xnnpack])
        loaded.allocate_tensors()
    return loaded


def run_batches(interpreter: Any, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits ``[N, classes]`` of images ``[N, C, R, R]``, uint8 where the file takes pixels, else float32, ``batch`` at a time;
    int8 input and output are converted by the file's own scales and zero points, as in onnxruntime."""
    place, y = _logits(interpreter)
    return _real(y, np.concatenate([_invoke(interpreter, images[i : i + batch])[place] for i in range(0, len(images), batch)]))


def _logits(interpreter: Any) -> tuple[int, Mapping[str, Any]]:
    """Which output the logits are, and its details: the last of a file of ours, behind their softmax."""
    outputs = interpreter.get_output_details()
    return len(outputs) - 1, outputs[-1]


def record_ops(model: IntegerModel, images: np.ndarray, xnnpack: bool = True) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``, of a file that puts them all out."""
    outputs = _invoke(interpreter(write_tflite(model, every_op=True), xnnpack=xnnpack), images)[1:]
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
    logits, *outputs = _invoke(running, images)
    integers = {name: _unsigned(y) for name, y in zip(ops, outputs, strict=True)}
    return Inspection(qparams, real["weight"], real["bias"], integers, _real(running.get_output_details()[0], logits))


def _constant(model: Any, tensor: Any, dtype: type) -> np.ndarray:
    """The real values of a weight or bias, its channels first."""
    integers = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(dtype).reshape(tensor.shape)
    scales = np.asarray(tensor.quantization.scale, np.float32)
    if integers.ndim == 1:
        return integers * scales
    last = tensor.quantization.quantizedDimension == 3  # of a depthwise convolution: [1, k, k, C]
    return integers.transpose((3, 0, 1, 2) if last else (0, 3, 1, 2)) * scales[:, None, None, None]


def _real(details: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """An output tensor as float32 ``[N, classes]``: int8 by its own scale and zero point."""
    flat = _channels_first(values).reshape(len(values), -1)
    if details["dtype"] == np.float32:
        return flat
    scale, zero = details["quantization"]
    return (flat.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _unsigned(y: np.ndarray) -> np.ndarray:
    return (_channels_first(y).astype(np.int16) + INT8).astype(np.uint8)


def _channels_first(y: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if y.ndim == 4 else y


def timed_call(interpreter: Any) -> Callable[[], object]:
    """One call on a random image as an app makes it: the input tensor, in the form that the file takes, is set, the model
    run, and the output fetched. What prepares the image is no part of it."""
    (x,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _, hw, _, channels = x["shape"]
    image = random_image((1, channels, hw, hw), pixels=x["dtype"] == np.uint8)
    values, read, written = _prepared(x, image), x["index"], outputs[0]["index"]

    def call() -> object:
        interpreter.set_tensor(read, values)
        interpreter.invoke()
        return interpreter.get_tensor(written)

    return call


def _invoke(interpreter: Any, images: np.ndarray) -> list[np.ndarray]:
    """Every output of one batch; the interpreter is resized to it if need be."""
    (x,) = interpreter.get_input_details()
    values = _prepared(x, images)
    if tuple(x["shape"]) != values.shape:
        interpreter.resize_tensor_input(x["index"], values.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(x["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()]


def _prepared(x: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """Images ``[N, C, R, R]`` as the input tensor of details ``x`` takes them, ``[N, R, R, C]``: pixels as they are, float32 as
    int8 or float32."""
    values = images.transpose(0, 2, 3, 1)
    if x["dtype"] == np.int8 and images.dtype != np.uint8:
        scale, zero = x["quantization"]
        values = (quantize(values, (scale, zero + INT8)).astype(np.int16) - INT8).astype(np.int8)
    return np.ascontiguousarray(values)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without LiteRT's line about its delegate, which it writes to stderr and has no setting for."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
