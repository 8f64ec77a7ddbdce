"""Models to time: latency depends on a graph's shapes, so random contents do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.space import Graph


def timing_writer(weight_bits: int, padding: str) -> Callable[[Graph], tuple[bytes, bytes]]:
    """A function from a graph to its INT8 and FP32 ONNX models of random weights (the same for the same graph),
    under the device's ``padding``."""

    def write(graph: Graph) -> tuple[bytes, bytes]:
        integer, real = random_models(graph, np.random.default_rng(0), weight_bits, padding)
        return write_int8(integer), write_fp32(real)

    return write
