"""Which runtimes execute a model file, in one table: the first that reads files of its ending is the file's own, for which it
was written and which gives the reference's integers; others that read it may round otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.model import FloatModel, Inspection, IntegerModel
from spaceevo.deploy.integer.reference import Arrays
from spaceevo.deploy.runtimes.ort import inspect
from spaceevo.errors import UserError, first_line
from spaceevo.latency.host import versions
from spaceevo.latency.machines.machine import Machine
from spaceevo.latency.runtimes.call import PACKAGES, runtime_module

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

    def reads(self, path: Path | str) -> bool:
        """Whether it executes such a file, by its ending."""
        return Path(path).suffix == Path(self.int8).suffix

    @property
    def owns(self) -> bool:
        """Whether its files are written for it, and not another's that it reads."""
        return runtime_of(self.int8) is self


def _inspect_tflite(content: bytes, ops: Sequence[str], images: np.ndarray) -> Inspection:
    from spaceevo.deploy.runtimes import litert

    return litert.inspect(content, ops, images)


def _write_onnx(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    return write_int8(integer), write_fp32(real)


def _write_tflite(integer: IntegerModel, real: FloatModel) -> tuple[bytes, bytes]:
    from spaceevo.deploy.files.tflite_float import write_float_tflite
    from spaceevo.deploy.files.tflite_writer import write_tflite

    return write_tflite(integer), write_float_tflite(real)


ONNXRUNTIME = Runtime("onnxruntime", "model.onnx", "fp32.onnx", inspect, _write_onnx)
LITERT = Runtime("litert", "model.tflite", "fp32.tflite", _inspect_tflite, _write_tflite)
#: By their names.
RUNTIMES = {runtime.name: runtime for runtime in (ONNXRUNTIME, LITERT, replace(ONNXRUNTIME, name="openvino"))}


def runtime_called(name: str) -> Runtime:
    """The runtime of that name (``device.runtime``); of ``none``, a device that is not here, onnxruntime."""
    return RUNTIMES.get(name, ONNXRUNTIME)


def runtimes_in(versions: Mapping[str, str]) -> list[Runtime]:
    """Those that a machine with such ``versions`` (:func:`spaceevo.latency.host.versions`) has."""
    return [runtime for runtime in RUNTIMES.values() if PACKAGES[runtime.name] in versions]


def runtimes_for(runtime: Runtime) -> list[Runtime]:
    """What files are run in whose latency is ``runtime``'s: it, all that files are written for, and what else is here."""
    here = runtimes_in(versions())
    return [one for one in RUNTIMES.values() if one.owns or one == runtime or one in here]


def runtime_of_card(card: Mapping[str, object]) -> Runtime:
    """The runtime whose latency is the model's: what a card of an older version does not say is onnxruntime."""
    return runtime_called(str(card.get("runtime")))


def runtime_of(path: Path | str) -> Runtime | None:
    """A file's own runtime by its ending, None where none here executes it."""
    return next((runtime for runtime in RUNTIMES.values() if runtime.reads(path)), None)


def owner(path: Path | str) -> Runtime:
    """The same of a file of ours.

    Raises:
        KeyError: no runtime's.
    """
    runtime = runtime_of(path)
    if runtime is None:
        raise KeyError(str(path))
    return runtime


def open_file(path: Path, content: bytes, threads: int = 1, runtime: Runtime | None = None) -> Logits:
    """A function from images to the logits that ``runtime`` gives, None: the file's own. It raises UserError where the file is
    a model, but not one of images to logits.

    Raises:
        UserError: the runtime is not here, or cannot read the file.
    """
    runtime = runtime or owner(path)
    module = runtime_module(runtime.name)
    try:
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


def open_on(machine: Machine, path: Path, content: bytes, runtime: Runtime) -> tuple[Logits, int]:
    """The same on ``machine``, and how many images it is best given at a time: each question to another machine costs seconds.

    Raises:
        UserError: the runtime cannot read the file; of another machine that shows when it is run.
    """
    if machine.here:
        return open_file(path, content, runtime=runtime), PART
    return lambda images: machine.outputs(runtime.name, content, images), SENT_AT_ONCE


#: Ms of single calls of files by name, by runtime; and of one call out of cold caches.
Times = dict[str, dict[str, np.ndarray]]
ColdTimes = dict[str, dict[str, float]]


def measure_files(
    files: Mapping[str, bytes],
    machine: Machine,
    runtimes: Sequence[Runtime],
    rounds: int,
    runs: int,
    threads: int,
    spread_s: float,
) -> Times:
    """Milliseconds of single calls on ``machine`` of every file in each of ``runtimes`` that reads it; a runtime's files in
    interleaved rounds."""
    taken = _by_runtime(files, runtimes)
    return {name: machine.measure(name, mine, rounds, runs, threads, spread_s) for name, mine in taken}


def measure_cold(files: Mapping[str, bytes], machine: Machine, runtimes: Sequence[Runtime], threads: int) -> ColdTimes:
    """Milliseconds of a call of every file that finds nothing of its model in the caches."""
    return {name: machine.cold_ms(name, mine, threads) for name, mine in _by_runtime(files, runtimes)}


def _by_runtime(files: Mapping[str, bytes], runtimes: Sequence[Runtime]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for runtime in runtimes:
        mine = {name: content for name, content in files.items() if runtime.reads(name)}
        if mine:
            yield runtime.name, mine
