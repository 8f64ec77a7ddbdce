"""One command at a time in a run folder: real processes, killed and forked ones too."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, Command

from spaceevo.app.lock import LOCK, locked
from spaceevo.errors import UserError

HOLD = """
import os, sys, time
from pathlib import Path
from spaceevo.app.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2:] else 1
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has the folder, and what it says first."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, "-c", HOLD, str(folder), *more]
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_second_command_is_refused_with_who_has_the_folder_and_runs_when_that_is_killed(
    tmp_path: Path, command: Command
) -> None:
    line = ("train", "experiment=tiny", "stage=teacher", "teacher.epochs=0", "run_dir=run")
    with holder(tmp_path / "run") as (process, _):
        done = command(*line)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        who = f"process {process.pid} on {socket.gethostname()}, since 20"
        assert done.stderr.startswith(f"error: run_dir={tmp_path / 'run'}: {who}"), done.stderr
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "run" / LOCK).exists()
        assert command(*line).returncode == 0
        assert not (tmp_path / "run" / LOCK).exists()


def test_what_a_killed_command_has_forked_keeps_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path, "fork") as (process, child):
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            _soon_locked(tmp_path)  # the child lets go once it runs, whenever that is
        finally:
            os.kill(child, signal.SIGKILL)


def _soon_locked(folder: Path) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            with locked(folder):
                return
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_the_lock_is_held_once_by_a_process_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with locked(folder):
        with locked(folder):
            assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
        assert (folder / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "free"),
    [
        (lambda: dict(pid=os.getppid(), host=socket.gethostname(), started="2026"), False),
        (lambda: dict(pid=2**22 + 1, host=socket.gethostname(), started="2026"), True),
        (lambda: dict(pid=1, host="elsewhere", started="2026"), False),
        (lambda: None, True),
    ],
)
def test_where_a_file_system_knows_no_locks_the_owner_decides(
    owner: Callable[[], object], free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    (tmp_path / LOCK).write_text(json.dumps(owner()))
    if free:
        with locked(tmp_path):
            pass
    else:
        with (
            pytest.raises(UserError, match=r"is at work in it; .* \(if that process is gone, remove .*\.lock\)"),
            locked(tmp_path),
        ):
            pass
