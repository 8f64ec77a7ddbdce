"""How a command ends that is stopped from outside: by Ctrl-C, by SIGTERM, or because nobody reads what it says."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED, UNREAD = (128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE))


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, but for the exit code."""


def guarded(work: Callable[[], int]) -> int:
    """The exit code of ``work``: its own, 130 after Ctrl-C and 143 after SIGTERM, each with a line on standard error that says
    how to go on, and 141, silently, where nobody reads its output any more (``| head``)."""
    try:
        with _sigterm_raises():
            code = work()
            sys.stdout.flush()
            return code
    except KeyboardInterrupt as stopped:
        return _stopped(isinstance(stopped, Terminated))
    except BrokenPipeError:
        if not _unread(1) and not _unread(2):
            raise
        _silence()
        return UNREAD


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """What stopped the command, where ``error`` comes of code that was tidying up after that."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _stopped(terminated: bool) -> int:
    anew = any(argument.lstrip("+").split("=")[0] == "start_over" for argument in sys.argv[1:])
    how = "the same command again without start_over" if anew else "the same command again"
    try:
        print(f"{'terminated' if terminated else 'interrupted'}: run {how} to go on", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _silence()
    return TERMINATED if terminated else INTERRUPTED


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """While it runs, in this process, and where nobody answers SIGTERM yet."""
    mine = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == mine:
            raise Terminated
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked data worker
        os.kill(os.getpid(), signal.SIGTERM)

    here = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if here:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unread(descriptor: int) -> bool:
    """Whether the other end of a pipe is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _silence() -> None:
    """Python flushes at its end; what is left to say goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if _unread(descriptor):
            os.dup2(nowhere, descriptor)
