"""Which runtime executes a model file: chosen by the file's ending, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaceevo.deploy.parity import run_batches, session
from spaceevo.deploy.reference import Arrays
from spaceevo.errors import UserError
from spaceevo.latency.measure import measure

PART = 500  # images between two steps of a progress bar
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        open: a file's content and the number of threads, to a function from images ``[N, C, R, R]`` to ``[N, classes]``.
        call: the same, to one call on a random image, which :func:`spaceevo.latency.measure.measure` times; None:
            onnxruntime's.
    """

    name: str
    open: Callable[[bytes, int], Logits]
    call: Callable[[bytes | Path, int], Callable[[], object]] | None = None


def _onnx(content: bytes, threads: int) -> Logits:
    running = session(content, threads)
    return lambda images: run_batches(running, images)


def _tflite(content: bytes, threads: int) -> Logits:
    from spaceevo.deploy import litert

    running = litert.interpreter(content, threads)
    return lambda images: litert.run_batches(running, images)


def _tflite_call(content: bytes | Path, threads: int) -> Callable[[], object]:
    from spaceevo.deploy import litert

    running = litert.interpreter(content, threads)
    _, *shape = running.get_input_details()[0]["shape"]
    image = np.random.default_rng(0).standard_normal((1, shape[2], *shape[:2])).astype(np.float32)
    return lambda: litert.run_batches(running, image)


RUNTIMES: dict[str, Runtime] = {
    ".onnx": Runtime("onnxruntime", _onnx),
    ".tflite": Runtime("litert", _tflite, _tflite_call),
}


def runtime_of(path: Path | str) -> Runtime | None:
    """The runtime of a file by its ending, None where none here executes it."""
    return RUNTIMES.get(Path(path).suffix)


def open_file(path: Path, content: bytes, threads: int = 1) -> Logits:
    """A function from images to the logits that the file's runtime gives.

    Raises:
        UserError: the runtime cannot read the file.
    """
    runtime = RUNTIMES[path.suffix]
    try:
        return runtime.open(content, threads)
    except Exception as error:  # every runtime has exceptions of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: truncated or not a model that {runtime.name} can read ({reason})") from None


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
    for ending, runtime in RUNTIMES.items():
        mine = {name: content for name, content in files.items() if name.endswith(ending)}
        if mine:
            times |= measure(mine, rounds, runs, threads, spread_s=spread_s, open_call=runtime.call)
    return times
