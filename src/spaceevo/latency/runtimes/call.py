"""What is timed: one call on a random image, as an app makes it with a prepared one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

#: The file here of each runtime by its name, and the package that brings it.
FILES = {"onnxruntime": "ort", "litert": "litert"}
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}
Call = Callable[[bytes | Path, int], Callable[[], object]]


def runtime_module(name: str) -> Any:
    """The file here of the runtime ``name``: ``load(file, threads)``, ``timed_call(loaded)``, ``run_batches(loaded, images)``.

    Raises:
        ImportError: the runtime cannot be loaded on this machine.
    """
    return import_module(f"spaceevo.latency.runtimes.{FILES[name]}")


def opener(runtime: str) -> Call:
    """A function from a file (its content or path) and a number of threads to the call that is timed."""
    module = runtime_module(runtime)
    return lambda file, threads: module.timed_call(module.load(file, threads))


def random_image(shape: Sequence[int], pixels: bool) -> np.ndarray:
    """Uint8 pixels, or float32 noise, of a ``shape``; always the same."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, shape, np.uint8) if pixels else rng.standard_normal(shape).astype(np.float32)
