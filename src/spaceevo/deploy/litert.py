"""The adapter of LiteRT (formerly TFLite): load a file, run images to logits, fetch every op's integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.reference import dequantize, quantize
from spaceevo.deploy.tflite_writer import INT8, write_tflite

RESOLVERS = {True: OpResolverType.BUILTIN, False: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def interpreter(file: bytes | Path, threads: int = 1, xnnpack: bool = True) -> Any:
    """The model in LiteRT; without XNNPACK its ops' other kernels run, whose rounding differs."""
    source = dict(model_content=file) if isinstance(file, bytes) else dict(model_path=str(file))
    return Interpreter(**source, num_threads=threads, experimental_op_resolver_type=RESOLVERS[xnnpack])


def run_logits(interpreter: Any, model: IntegerModel, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits ``[N, classes]`` of float32 images ``[N, C, R, R]``, ``batch`` at a time; a file of int8 input and output is
    given the images as ``model``'s integers."""
    parts = []
    for i in range(0, len(images), batch):
        y = _invoke(interpreter, model, images[i : i + batch])[0]
        y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
        parts.append(np.ascontiguousarray(y).reshape(len(y), -1))
    y = np.concatenate(parts)
    return y if y.dtype == np.float32 else dequantize(model, y.astype(np.int16) + INT8)


def record_ops(model: IntegerModel, images: np.ndarray, xnnpack: bool = True) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``."""
    outputs = _invoke(interpreter(write_tflite(model, every_op=True), xnnpack=xnnpack), model, images)[1:]
    record = {op.name: _unsigned(y) for op, y in zip(model.graph.ops, outputs, strict=True)}
    return {model.graph.input.name: quantize(model, images), **record}


def _unsigned(y: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2).astype(np.int16) + INT8).astype(np.uint8)


def _invoke(interpreter: Any, model: IntegerModel, images: np.ndarray) -> list[np.ndarray]:
    (x,) = interpreter.get_input_details()
    shape = [len(images), *x["shape"][1:]]
    if list(x["shape"]) != shape:
        interpreter.resize_tensor_input(x["index"], shape)
    interpreter.allocate_tensors()
    integers = x["dtype"] != np.float32
    values = (quantize(model, images).astype(np.int16) - INT8).astype(np.int8) if integers else images
    interpreter.set_tensor(x["index"], np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
    interpreter.invoke()
    return [interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()]
