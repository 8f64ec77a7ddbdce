"""Networks trained side by side, each in a process and on threads of its own.

Two of them, on one thread each, take three quarters of the time that they take one after the other on two threads, of which the
operations of a small network make little use.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaceevo.errors import UserError

if TYPE_CHECKING:
    from spaceevo.steps.needs import Trained

PEAKS: list[int] = []  # MiB that processes of the step under way took at once, each at most


def at_once(cfg: Trained, works: int) -> int:
    """How many of so many works are done at once: as many as this process has threads, on a CPU."""
    import torch

    from spaceevo.training.fit import device_of

    alone = device_of(cfg.trainer.accelerator).type != "cpu" or cfg.trainer.strategy != "auto"
    return 1 if alone else max(1, min(works, torch.get_num_threads()))


def side_by_side(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]], workers: int) -> None:
    """``work``, with a number of threads and each of ``arguments``, so many at a time, in processes that share the threads of
    this one and end with it.

    Raises:
        UserError: what the first that failed raised; the others are ended.
    """
    import torch

    context, threads = multiprocessing.get_context("spawn"), max(1, torch.get_num_threads() // workers)
    waiting, peaks = list(arguments), [0]
    running: dict[Any, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                ours, theirs = context.Pipe(duplex=False)
                running[ours] = context.Process(target=_do, args=(theirs, threads, work, waiting.pop(0)))
                running[ours].start()
                theirs.close()
            for ready in wait(list(running)):
                failure, peak = _ended(ready)
                peaks.append(peak)
                running.pop(ready).join()
                if failure is not None:
                    raise failure
    finally:
        PEAKS.extend(sorted(peaks)[-workers:])
        for process in running.values():
            process.kill()
        for process in running.values():
            process.join()


def _ended(ours: Any) -> tuple[Exception | None, int]:
    try:
        return ours.recv()
    except EOFError:
        return UserError("a process of the step was ended from outside; the same command goes on where it stopped"), 0


def _do(theirs: Connection, threads: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    failure = None
    try:
        work(threads, *arguments)
    except Exception as error:
        failure = error
    theirs.send((failure, peak_mib()))


def peak_mib() -> int:
    """Peak resident memory in MiB of this process, on Linux since it was last reset (``app/memory.py``). What ``getrusage``
    tells is second best: it counts the process that this one was spawned from."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
