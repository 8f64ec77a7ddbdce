"""The adapter of LiteRT (formerly TFLite): load a file, run images to logits, fetch every op's integers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.reference import quantize
from spaceevo.deploy.tflite_writer import INT8, write_tflite

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
    """Logits ``[N, classes]`` of float32 images ``[N, C, R, R]``, ``batch`` at a time; int8 input and output are converted
    by the file's own scales and zero points, as in onnxruntime."""
    (y,) = interpreter.get_output_details()
    parts = [_invoke(interpreter, images[i : i + batch])[0] for i in range(0, len(images), batch)]
    logits = np.concatenate([_channels_first(part).reshape(len(part), -1) for part in parts])
    if y["dtype"] == np.float32:
        return logits
    scale, zero = y["quantization"]
    return (logits.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def record_ops(model: IntegerModel, images: np.ndarray, xnnpack: bool = True) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``, of a file that puts them all out."""
    outputs = _invoke(interpreter(write_tflite(model, every_op=True), xnnpack=xnnpack), images)[1:]
    record = {op.name: _unsigned(y) for op, y in zip(model.graph.ops, outputs, strict=True)}
    return {model.graph.input.name: quantize(images, model.qparams[model.graph.input.name]), **record}


def _unsigned(y: np.ndarray) -> np.ndarray:
    return (_channels_first(y).astype(np.int16) + INT8).astype(np.uint8)


def _channels_first(y: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if y.ndim == 4 else y


def _invoke(interpreter: Any, images: np.ndarray) -> list[np.ndarray]:
    """Every output of one batch; the interpreter is resized to it if need be."""
    (x,) = interpreter.get_input_details()
    values = images.transpose(0, 2, 3, 1)
    if x["dtype"] != np.float32:
        scale, zero = x["quantization"]
        values = (quantize(values, (scale, zero + INT8)).astype(np.int16) - INT8).astype(np.int8)
    if tuple(x["shape"]) != values.shape:
        interpreter.resize_tensor_input(x["index"], values.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(x["index"], np.ascontiguousarray(values))
    interpreter.invoke()
    return [interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()]


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
