"""What a machine is asked: what it is, how long files take, and what one gives for images.

This runs on the machine itself: called where it is this one, else sent there, with the few files that it needs
(:mod:`spaceevo.latency.machines.ssh`), to read what is asked from its input and write what it answers as one line of JSON.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from spaceevo.errors import UserError, first_line
from spaceevo.latency import host
from spaceevo.latency.measure import cold_ms, measure
from spaceevo.latency.runtimes.call import opener, runtime_module


def answer(task: str, asked: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
    """``task``: one of ``TASKS``; ``asked``: its arguments.

    Raises:
        UserError: an argument that this machine cannot do; the runtime is not there.
    """
    return TASKS[task](files, **asked)


def _facts(files: Mapping[str, bytes]) -> dict[str, Any]:
    return host.facts()


def _measure(
    files: Mapping[str, bytes], runtime: str, rounds: int, runs: int, threads: int, spread_s: float
) -> dict[str, list[float]]:
    times = measure(files, rounds, runs, threads, spread_s=spread_s, open_call=opener(runtime))
    return {name: taken.tolist() for name, taken in times.items()}


def _cold(files: Mapping[str, bytes], runtime: str, threads: int) -> dict[str, float]:
    return cold_ms(files, threads, opener(runtime))


def _outputs(files: Mapping[str, bytes], runtime: str, images: Mapping[str, str]) -> dict[str, str]:
    """``images``: by the name of each model's file, that of the file of its images."""
    module, given = runtime_module(runtime), {}
    for name, shown in images.items():
        held = np.load(io.BytesIO(files[shown]), allow_pickle=False)
        given[name] = base64.b64encode(content(module.run_batches(module.load(files[name]), held))).decode()
    return given


TASKS: dict[str, Callable[..., Any]] = {"facts": _facts, "measure": _measure, "cold": _cold, "outputs": _outputs}


def content(values: np.ndarray) -> bytes:
    """An array as the bytes of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def array(text: str) -> np.ndarray:
    """The array of a task's answer."""
    return np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)


def question(task: str, asked: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """What :func:`serve` reads: a line that tells what is asked, then the files."""
    told = dict(task=task, asked=dict(asked), files={name: len(held) for name, held in files.items()})
    return json.dumps(told).encode() + b"\n" + b"".join(files.values())


def serve(read: BinaryIO) -> str:
    """The answer to the question in ``read``, as a line of JSON: ``answer``, or why there is none (``refused``)."""
    told = json.loads(read.readline())
    files = {name: read.read(size) for name, size in told["files"].items()}
    try:
        return json.dumps(dict(answer=answer(told["task"], told["asked"], files)))
    except UserError as error:
        return json.dumps(dict(refused=str(error)))
    except Exception as error:  # every runtime has exceptions of its own
        return json.dumps(dict(refused=f"{type(error).__name__}: {first_line(error)}"))
