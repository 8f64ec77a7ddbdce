"""LiteRT (formerly TFLite): a file loaded, run over images, and called once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from spaceevo.latency.runtimes.call import random_image

RESOLVERS = {True: OpResolverType.BUILTIN, False: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def load(file: bytes | Path, threads: int = 1, xnnpack: bool = True) -> Any:
    """The model; without XNNPACK its ops' other kernels run, whose rounding differs.

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
    outputs = interpreter.get_output_details()
    last = len(outputs) - 1  # of a file of ours, the logits stand behind their softmax
    logits = np.concatenate([invoke(interpreter, images[i : i + batch])[last] for i in range(0, len(images), batch)])
    return real_values(outputs[last], logits)


def timed_call(interpreter: Any) -> Callable[[], object]:
    """One call: the input tensor, in the form that the file takes, is set, the model run, and the output fetched. What prepares
    the image is no part of it."""
    (x,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _, hw, _, channels = x["shape"]
    image = random_image((1, channels, hw, hw), pixels=x["dtype"] == np.uint8)
    values, read, written = _prepared(x, image), x["index"], outputs[0]["index"]

    def call() -> object:
        interpreter.set_tensor(read, values)
        interpreter.invoke()
        return interpreter.get_tensor(written)

    return call


def invoke(interpreter: Any, images: np.ndarray) -> list[np.ndarray]:
    """Every output of one batch of images ``[N, C, R, R]``; the interpreter is resized to it if need be."""
    (x,) = interpreter.get_input_details()
    values = _prepared(x, images)
    if tuple(x["shape"]) != values.shape:
        interpreter.resize_tensor_input(x["index"], values.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(x["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()]


def real_values(details: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """An output tensor of ``details`` as float32 ``[N, classes]``: int8 by its own scale and zero point."""
    flat = channels_first(values).reshape(len(values), -1)
    if details["dtype"] == np.float32:
        return flat
    scale, zero = details["quantization"]
    return (flat.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def channels_first(y: np.ndarray) -> np.ndarray:
    """A tensor ``[N, H, W, C]`` as ``[N, C, H, W]``; any other as it is."""
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if y.ndim == 4 else y


def _prepared(x: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """Images ``[N, C, R, R]`` as the input tensor of details ``x`` takes them, ``[N, R, R, C]``: pixels as they are, float32 as
    int8 or float32."""
    values = images.transpose(0, 2, 3, 1)
    if x["dtype"] == np.int8 and images.dtype != np.uint8:
        scale, zero = x["quantization"]
        values = np.clip(np.rint(values / np.float32(scale)) + np.float32(zero), -128, 127).astype(np.int8)
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
