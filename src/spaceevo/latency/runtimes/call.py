"""What is timed: one call on a random image, as an app makes it with a prepared one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.errors import UserError, first_line
from spaceevo.latency.host import describe

#: The file here of each runtime by its name, and the package that brings it.
FILES = {"onnxruntime": "ort", "litert": "litert", "openvino": "ov"}
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "openvino": "openvino"}
Call = Callable[[bytes | Path, int], Callable[[], object]]


def runtime_module(name: str) -> Any:
    """The file here of the runtime ``name``: ``load(file, threads)``, ``timed_call(loaded)``, ``run_batches(loaded, images)``.

    Raises:
        UserError: the runtime cannot be loaded on this machine; what to install.
    """
    try:
        return import_module(f"spaceevo.latency.runtimes.{FILES[name]}")
    except ImportError as error:
        package = PACKAGES[name]
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({first_line(error)})"
        raise UserError(f"{package} {why}; for {describe()['system']}: pip install {package}") from None


def opener(runtime: str) -> Call:
    """A function from a file (its content or path) and a number of threads to the call that is timed."""
    module = runtime_module(runtime)
    return lambda file, threads: module.timed_call(module.load(file, threads))


def random_image(shape: Sequence[int], pixels: bool) -> np.ndarray:
    """Uint8 pixels, or float32 noise, of a ``shape``; always the same."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, shape, np.uint8) if pixels else rng.standard_normal(shape).astype(np.float32)
