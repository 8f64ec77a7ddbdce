"""Which runtime executes a model file: chosen by the file's ending, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.model import FloatModel, Inspection, IntegerModel
from spaceevo.deploy.integer.reference import Arrays
from spaceevo.deploy.runtimes.ort import inspect, run_batches, session
from spaceevo.errors import UserError
from spaceevo.latency.measure import Call, cold_ms, measure

PART = 500  # images between two steps of a progress bar
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        int8, fp32: what a model's files for it are called in the model's folder.
        open: a file's content and the number of threads, to a function from images ``[N, C, R, R]`` to ``[N, classes]``.
        inspect: what stands in a file and what the ops of given names give over images ``[N, C, R, R]``.
        write: an integer and a float model to their files, of normalized floats, for timing.
        call: a file's content and the number of threads, to one call on a random image, which is timed; None: onnxruntime's.
    """

    name: str
    int8: str
    fp32: str
    open: Callable[[bytes, int], Logits]
    inspect: Callable[[bytes, Sequence[str], np.ndarray], Inspection]
    write: Callable[[IntegerModel, FloatModel], tuple[bytes, bytes]]
    call: Call | None = None


def _onnx(content: bytes, threads: int) -> Logits:
    running = session(content, threads)
    return lambda images: run_batches(running, images)


def _tflite(content: bytes, threads: int) -> Logits:
    from spaceevo.deploy.runtimes import litert

    running = litert.interpreter(content, threads)
    return lambda images: litert.run_batches(running, images)


def _inspect_tflite(content: bytes, ops: Sequence[str], images: np.ndarray) -> Inspection:
    from spaceevo.deploy.runtimes import litert

    return litert.inspect(content, ops, images)


def _tflite_call(content: bytes | Path, threads: int) -> Callable[[], object]:
    from spaceevo.deploy.runtimes import litert

    return litert.timed_call(litert.interpreter(content, threads))


def _write_onnx(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    return write_int8(integer), write_fp32(real)


def _write_tflite(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    from spaceevo.deploy.files.tflite_float import write_float_tflite
    from spaceevo.deploy.files.tflite_writer import write_tflite

    return write_tflite(integer), write_float_tflite(real)


#: By the ending of their files.
RUNTIMES: dict[str, Runtime] = {
    ".onnx": Runtime("onnxruntime", "model.onnx", "fp32.onnx", _onnx, inspect, _write_onnx),
    ".tflite": Runtime("litert", "model.tflite", "fp32.tflite", _tflite, _inspect_tflite, _write_tflite, _tflite_call),
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
        running = runtime.open(content, threads)
    except Exception as error:  # every runtime has exceptions of its own
        raise UserError(f"{path}: truncated or not a model that {runtime.name} can read ({_reason(error)})") from None

    def run(images: np.ndarray) -> np.ndarray:
        try:
            logits = running(images)
        except Exception as error:
            raise UserError(f"{path}: no model of ours for images {list(images.shape[1:])} ({_reason(error)})") from None
        if logits.ndim != 2 or len(logits) != len(images):
            raise UserError(f"{path}: no model of ours: gives {list(logits.shape)} for {len(images)} images")
        return logits

    return run


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def outputs(logits: Logits, images: Arrays, progress: Callable[[int], object] = lambda done: None) -> np.ndarray:
    """Logits ``[N, classes]`` of ``images``; ``progress`` hears how many are done."""
    return np.concatenate(list(_parts(logits, images, progress)))


def _parts(logits: Logits, images: Arrays, progress: Callable[[int], object]) -> Iterator[np.ndarray]:
    for start in range(0, len(images), PART):
        yield logits(images[start : start + PART])
        progress(min(start + PART, len(images)))


def measure_files(files: Mapping[str, bytes], rounds: int, runs: int, threads: int, spread_s: float) -> dict[str, np.ndarray]:
    """Milliseconds of single calls of every file, by name; a runtime's files in interleaved rounds."""
    times: dict[str, np.ndarray] = {}
    for runtime, mine in _by_runtime(files):
        times |= measure(mine, rounds, runs, threads, spread_s=spread_s, open_call=runtime.call)
    return times


def measure_cold(files: Mapping[str, bytes], threads: int) -> dict[str, float]:
    """Milliseconds of a call of every file, by name, that finds nothing of its model in the caches."""
    times: dict[str, float] = {}
    for runtime, mine in _by_runtime(files):
        times |= cold_ms(mine, threads, runtime.call)
    return times


def _by_runtime(files: Mapping[str, bytes]) -> Iterator[tuple[Runtime, dict[str, bytes]]]:
    for ending, runtime in RUNTIMES.items():
        mine = {name: content for name, content in files.items() if name.endswith(ending)}
        if mine:
            yield runtime, mine
