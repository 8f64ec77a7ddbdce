"""Models to time: latency depends on a graph's shapes, so random contents do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spaceevo.deploy.integer.random_model import random_models
from spaceevo.deploy.runtimes.registry import runtime_called
from spaceevo.nn.scheme import Quantizer
from spaceevo.space import Graph


def timing_writer(quantizer: Quantizer, padding: str, runtime: str = "onnxruntime") -> Callable[[Graph], tuple[bytes, bytes]]:
    """A function from a graph to its INT8 and FP32 files for ``runtime``, of random weights (the same for the same graph),
    under the device's ``padding``."""
    files = runtime_called(runtime).write

    def write(graph: Graph) -> tuple[bytes, bytes]:
        return files(*random_models(graph, np.random.default_rng(0), quantizer, padding))

    return write
