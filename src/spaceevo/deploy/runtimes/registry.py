"""Which runtime executes a model file: chosen by the file's ending, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.model import FloatModel, Inspection, IntegerModel
from spaceevo.deploy.integer.reference import Arrays
from spaceevo.deploy.runtimes.ort import inspect
from spaceevo.errors import UserError, first_line
from spaceevo.latency.machines.machine import Machine
from spaceevo.latency.runtimes.call import runtime_module

PART, SENT_AT_ONCE = 500, 5000  # images between two steps of a progress bar
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """One runtime, as files are made for it; how it runs them: :mod:`spaceevo.latency.runtimes`.

    Attributes:
        int8, fp32: what a model's files for it are called in the model's folder.
        inspect: what stands in a file and what the ops of given names give over images ``[N, C, R, R]``.
        write: an integer and a float model to their files, of normalized floats, for timing.
    """

    name: str
    int8: str
    fp32: str
    inspect: Callable[[bytes, Sequence[str], np.ndarray], Inspection]
    write: Callable[[IntegerModel, FloatModel], tuple[bytes, bytes]]


def _inspect_tflite(content: bytes, ops: Sequence[str], images: np.ndarray) -> Inspection:
    from spaceevo.deploy.runtimes import litert

    return litert.inspect(content, ops, images)


def _write_onnx(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    return write_int8(integer), write_fp32(real)


def _write_tflite(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    from spaceevo.deploy.files.tflite_float import write_float_tflite
    from spaceevo.deploy.files.tflite_writer import write_tflite

    return write_tflite(integer), write_float_tflite(real)


#: By the ending of their files.
RUNTIMES: dict[str, Runtime] = {
    ".onnx": Runtime("onnxruntime", "model.onnx", "fp32.onnx", inspect, _write_onnx),
    ".tflite": Runtime("litert", "model.tflite", "fp32.tflite", _inspect_tflite, _write_tflite),
}


def runtime_called(name: str) -> Runtime:
    """The runtime of that name (``device.runtime``); of ``none``, a device that is not here, onnxruntime."""
    return next((runtime for runtime in RUNTIMES.values() if runtime.name == name), RUNTIMES[".onnx"])


def runtime_of_card(card: Mapping[str, object]) -> Runtime:
    """The runtime whose latency is the model's: what a card of an older version does not say is onnxruntime."""
    return runtime_called(str(card.get("runtime")))


def runtime_of(path: Path | str) -> Runtime | None:
    """The runtime of a file by its ending, None where none here executes it."""
    return RUNTIMES.get(Path(path).suffix)


def open_file(path: Path, content: bytes, threads: int = 1) -> Logits:
    """A function from images to the logits that the file's runtime gives. It raises UserError where the file is a model, but
    not one of images to logits.

    Raises:
        UserError: the runtime cannot read the file.
    """
    runtime = RUNTIMES[path.suffix]
    try:
        module = runtime_module(runtime.name)
        running = module.load(content, threads)
    except Exception as error:  # every runtime has exceptions of its own
        raise UserError(f"{path}: truncated or not a model that {runtime.name} can read ({first_line(error)})") from None

    def run(images: np.ndarray) -> np.ndarray:
        try:
            logits = module.run_batches(running, images)
        except Exception as error:
            raise UserError(f"{path}: no model of ours for images {list(images.shape[1:])} ({first_line(error)})") from None
        if logits.ndim != 2 or len(logits) != len(images):
            raise UserError(f"{path}: no model of ours: gives {list(logits.shape)} for {len(images)} images")
        return logits

    return run


def outputs(
    logits: Logits, images: Arrays, progress: Callable[[int], object] = lambda done: None, part: int = PART
) -> np.ndarray:
    """Logits ``[N, classes]`` of ``images``, ``part`` at a time; ``progress`` hears how many are done."""
    return np.concatenate(list(_parts(logits, images, progress, part)))


def _parts(logits: Logits, images: Arrays, progress: Callable[[int], object], part: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), part):
        yield logits(images[start : start + part])
        progress(min(start + part, len(images)))


def open_on(machine: Machine, path: Path, content: bytes) -> tuple[Logits, int]:
    """The same on ``machine``, and how many images it is best given at a time: each question to another machine costs seconds.

    Raises:
        UserError: the runtime cannot read the file; of another machine that shows when it is run.
    """
    if machine.here:
        return open_file(path, content), PART
    name = RUNTIMES[path.suffix].name
    return lambda images: machine.outputs(name, content, images), SENT_AT_ONCE


def measure_files(
    files: Mapping[str, bytes], machine: Machine, runtime: str | None, rounds: int, runs: int, threads: int, spread_s: float
) -> dict[str, np.ndarray]:
    """Milliseconds of single calls of every file on ``machine``, by name; a runtime's files in interleaved rounds. ``runtime``:
    the only one whose files are measured; None: all."""
    times: dict[str, np.ndarray] = {}
    for name, mine in _by_runtime(files, runtime):
        times |= machine.measure(name, mine, rounds, runs, threads, spread_s)
    return times


def measure_cold(files: Mapping[str, bytes], machine: Machine, runtime: str | None, threads: int) -> dict[str, float]:
    """Milliseconds of a call of every file, by name, that finds nothing of its model in the caches."""
    times: dict[str, float] = {}
    for name, mine in _by_runtime(files, runtime):
        times |= machine.cold_ms(name, mine, threads)
    return times


def _by_runtime(files: Mapping[str, bytes], only: str | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    for ending, runtime in RUNTIMES.items():
        mine = {name: content for name, content in files.items() if name.endswith(ending)}
        if mine and only in (None, runtime.name):
            yield runtime.name, mine
