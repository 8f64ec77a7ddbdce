"""OpenVINO on a CPU: a file loaded, run over images, and called once. It reads onnxruntime's files, and rounds as it likes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from spaceevo.latency.runtimes.call import random_image

OUTPUT = "logits"  # of a file of ours
#: One call after the other. Floats stay float32: left to itself it makes them bfloat16 where the CPU has that. Threads are not
#: pinned, as in the other runtimes: two processes' would share a core.
OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}


def load(file: bytes | Path, threads: int = 1) -> Any:
    """The model, compiled.

    Raises:
        RuntimeError: not an ONNX file, or not one that OpenVINO can run.
    """
    model = _core().read_model(file if isinstance(file, bytes) else str(file))
    return _core().compile_model(model, "CPU", OPTIONS | {"INFERENCE_NUM_THREADS": threads})


@cache
def _core() -> Any:
    return openvino.Core()


def run_batches(compiled: Any, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits ``[N, classes]`` of images ``[N, C, R, R]``, float32 or uint8 as the file takes them, ``batch`` at a time (a model
    of a fixed batch: that)."""
    rows = compiled.input().partial_shape[0]
    step = rows.get_length() if rows.is_static else batch
    request = compiled.create_infer_request()
    parts = []
    for start in range(0, len(images), step):
        request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(images[start : start + step])))
        request.infer(share_outputs=True)
        parts.append(request.get_tensor(OUTPUT).data.copy())
    return np.concatenate(parts)


def timed_call(compiled: Any) -> Callable[[], object]:
    """One call: the image is given, the model run, and the output fetched."""
    request, x = compiled.create_infer_request(), compiled.input()
    shape = [size.get_length() if size.is_static else 1 for size in x.partial_shape]
    image = openvino.Tensor(random_image(shape, pixels=x.element_type == openvino.Type.u8))

    def call() -> object:
        request.set_input_tensor(image)
        request.infer(share_outputs=True)  # it makes no copies for a dict that nobody reads
        return request.get_output_tensor(0).data

    return call


def executed(compiled: Any) -> list[tuple[str, str]]:
    """What runs, in order: the kind of each layer and the type that it computes in, ``("Convolution", "u8")``."""
    told = (op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops())
    return [(layer["layerType"].astype(str), layer["runtimePrecision"].astype(str)) for layer in told]
