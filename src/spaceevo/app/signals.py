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


STOPS: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
#: What this command was sent; libraries lose it, in code that tidies up after it or that Python runs inside an import.
_sent: list[int] = []


def guarded(work: Callable[[], int]) -> int:
    """The exit code of ``work``: its own, 130 after Ctrl-C and 143 after SIGTERM, each with a line on standard error that says
    how to go on, and 141, silently, where nobody reads its output any more (``| head``)."""
    try:
        with _signals_raise():
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


def raise_if_stopped() -> None:
    """Where an error is answered: it may come of a stop that a library has lost.

    Raises:
        KeyboardInterrupt: the command was sent SIGINT; ``Terminated``: SIGTERM.
    """
    if _sent:
        raise STOPS[_sent[0]] from None


def _stopped(terminated: bool) -> int:
    anew = any(argument.lstrip("+").split("=")[0] == "start_over" for argument in sys.argv[1:])
    how = "the same command again without start_over" if anew else "the same command again"
    try:
        print(f"{'terminated' if terminated else 'interrupted'}: run {how} to go on", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _silence()
    return TERMINATED if terminated else INTERRUPTED


@contextmanager
def _signals_raise() -> Iterator[None]:
    """While it runs, in this process, and where nobody but Python answers the signals yet."""
    mine, answers = os.getpid(), (signal.SIG_DFL, signal.default_int_handler)

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == mine:
            _sent.append(number)
            raise STOPS[number]
        signal.signal(number, before[number])  # a forked data worker
        os.kill(os.getpid(), number)

    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOPS if here and signal.getsignal(number) in answers}
    if before:
        _sent.clear()
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, answer in before.items():
            signal.signal(number, answer)


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
