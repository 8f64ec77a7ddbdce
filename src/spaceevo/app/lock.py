"""One command at a time in a run folder. The lock is the kernel's, so that of a process that died is free at once; what is
written into it, which process has it, is for whoever is refused, and decides where a file system knows no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spaceevo.errors import UserError
from spaceevo.steps.folder import say

LOCK = ".lock"
LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: dict[Path, int] = {}  # by this process, whose steps run one another: descriptors


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Have ``folder`` alone; made for that and left empty, it is removed again.

    Raises:
        UserError: another process has it, unless ``wait``; or it cannot be written.
    """
    path = folder.absolute() / LOCK
    if path in _held:
        yield
        return
    made = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path, wait)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"run_dir={folder}: cannot be written to ({error.strerror}: {error.filename})") from None
    _held[path] = descriptor
    try:
        yield
    finally:
        _held.pop(path, None)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _locked(path: Path, wait: bool) -> int:
    """The descriptor that holds the lock, which names this process from here on."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(descriptor, path, wait)
            if not _is(descriptor, path):  # its last owner has removed it meanwhile
                os.close(descriptor)
                continue
            mine = dict(pid=os.getpid(), host=socket.gethostname(), started=datetime.now(UTC).isoformat(timespec="seconds"))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{json.dumps(mine)}\n".encode(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor


def _take(descriptor: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise _taken(path) from None
        say(f"{path.parent}: waiting for the job that is running there")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        if _alive(_owner(path)):
            raise _taken(path) from None


def _let_go() -> None:
    """In a forked process, which would else keep the locks of a parent that died."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_let_go)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _alive(owner: dict[str, Any]) -> bool:
    """Whether the owner may still run; nobody can tell of another machine's."""
    if owner.get("host") != socket.gethostname():
        return bool(owner)
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _taken(path: Path) -> UserError:
    owner = _owner(path)
    who = f"process {owner['pid']} on {owner['host']}, since {owner['started']}" if owner else "another process"
    return UserError(
        f"run_dir={path.parent}: {who}, is at work in it; wait for it, or give this run a folder of its own with name=... "
        f"(if that process is gone, remove {path})"
    )
