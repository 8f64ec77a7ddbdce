"""onnxruntime: a file loaded, run over images, and called once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from spaceevo.latency.runtimes.call import random_image

OUTPUT = "logits"  # of a file of ours
ERRORS_ONLY = 3
INT8_ALLOWED = "session.qdqisint8allowed", "1"


def load(file: bytes | Path, threads: int = 1, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """The model, fully optimized; ``options``: other ones than :func:`session_options` gives."""
    source = file if isinstance(file, bytes) else str(file)
    return ort.InferenceSession(source, options or session_options(threads), providers=["CPUExecutionProvider"])


def session_options(threads: int) -> ort.SessionOptions:
    """One op after the other, each on ``threads`` threads. int8 stays int8: on x86 onnxruntime would make uint8 of it where a
    tensor has one reader, and compute in float what reads or writes the others; files of uint8 it leaves as they are."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(*INT8_ALLOWED)
    return options


def run_batches(session: ort.InferenceSession, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits ``[N, classes]`` of images ``[N, C, R, R]``, float32 or uint8 as the file takes them, ``batch`` at a time (a model
    of a fixed batch: that)."""
    x = session.get_inputs()[0]
    step = x.shape[0] if isinstance(x.shape[0], int) else batch
    parts = [session.run([OUTPUT], {x.name: images[i : i + step]})[0] for i in range(0, len(images), step)]
    return np.concatenate(parts)


def timed_call(session: ort.InferenceSession) -> Callable[[], object]:
    """One call: the image is given, the model run, and the output fetched."""
    feed = random_feed(session)
    return lambda: session.run(None, feed)


def random_feed(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """One random image for a model's one input: pixels for a uint8 input, else float32 noise."""
    (tensor,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in tensor.shape]
    return {tensor.name: random_image(shape, pixels=tensor.type == "tensor(uint8)")}
