"""Commands that are stopped from outside: Ctrl-C and SIGTERM in a training, pipes that nobody reads, no place to write to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import PATIENCE_S, ROOT, Command, forked, stop_when

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config
from spaceevo.errors import UserError

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
#: A process whose output nobody reads runs this first, and one of whose errors nobody reads either the second too.
UNREAD = "import os; reads, writes = os.pipe(); os.close(reads); os.dup2(writes, 1)\n"
UNREAD_TOO = "os.dup2(writes, 2)\n"
LONG = ("experiment=tiny", "stage=teacher", "threads=1", "run_dir=run", "teacher.epochs=2000")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_training_that_is_stopped_says_how_to_go_on(number: signal.Signals, code: int, word: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "spaceevo.train", *LONG]
    done = stop_when(tmp_path / "run/partial/teacher/last.ckpt", line, tmp_path, number)
    assert done.returncode == code
    assert done.stderr == f"{word}: run the same command again to go on\n"
    assert (tmp_path / "run/partial/teacher/last.ckpt").exists() and not (tmp_path / "run/.lock").exists()


def _tidies_up(cfg: Config) -> None:
    """As OmegaConf's context managers do, whose node a stop has left without its parent."""
    try:
        signal.raise_signal(_tidies_up.number)  # type: ignore[attr-defined]
    finally:
        None._invalidate_flags_cache()  # type: ignore[attr-defined]


def _imports(cfg: Config) -> None:
    """As onnxruntime does, whose compiled code imports numpy and forgets why it could not."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(_imports.number)  # type: ignore[attr-defined]
    raise UserError("onnxruntime: cannot be loaded (numpy failed to import)")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
@pytest.mark.parametrize("body", [_tidies_up, _imports])
def test_an_error_that_follows_a_stop_does_not_hide_it(
    body: Callable[[Config], None],
    number: signal.Signals,
    code: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(body, "number", number, raising=False)
    monkeypatch.setattr(sys, "argv", ["spaceevo", "experiment=tiny"])
    with pytest.raises(SystemExit) as ended:
        entrypoint("pipeline", body)()
    assert ended.value.code == code
    assert capsys.readouterr().err == f"{word}: run the same command again to go on\n"
    assert signal.getsignal(number) is before
    monkeypatch.setattr(sys, "argv", ["spaceevo", "experiment=tiny", "nonsense=1"])
    with pytest.raises(SystemExit) as ended:  # the stop is of that command, not of the next
        entrypoint("pipeline", body)()
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("spaceevo",),
        ("spaceevo.pipeline", "--help"),
        ("spaceevo.describe", "space=onnxw-151122-023231"),
        ("spaceevo.train", *LONG[:-1], "teacher.epochs=0"),
        ("spaceevo.lut", "experiment=tiny", "run_dir=nowhere"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_output_that_nobody_reads_ends_a_command_without_a_word(words: tuple[str, ...], both: bool, tmp_path: Path) -> None:
    if words[0] == "spaceevo.train":
        done = forked([sys.executable, "-m", *words], tmp_path, UNREAD + UNREAD_TOO * both)
        assert done.returncode == 141 and not done.stderr
        return
    reads, writes = os.pipe()
    os.close(reads)
    error = writes if both else subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, env=ENV, stdout=writes, stderr=error, timeout=PATIENCE_S
    )
    os.close(writes)
    if words[0] == "spaceevo.lut" and not both:
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    else:
        assert done.returncode == 141 and not done.stderr


def test_far_from_a_terminal_progress_is_a_line_now_and_then(tmp_path: Path) -> None:
    code = (
        "import time; from spaceevo import progress; progress.EVERY_S = 0.2\n"
        "for _ in progress.progress(range(10), 'things'): time.sleep(0.1)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 5 and "\r" not in done.stderr
    assert all(line.startswith("things: ") and "/10 [" in line for line in lines)


def test_a_short_training_far_from_a_terminal_draws_no_bar(tmp_path: Path, command: Command) -> None:
    done = command("train", *LONG[:-1], "teacher.epochs=1", "trainer.progress_bar=true")
    assert done.returncode == 0 and done.stderr == ""


#: Root may write anywhere, unless it gives that up.
BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.getuid() == 0 else []
NEEDS_SETPRIV = pytest.mark.skipif(bool(BOUND) and shutil.which("setpriv") is None, reason="root cannot give up its rights")


@NEEDS_SETPRIV
def test_a_read_only_run_folder_is_named_in_a_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    line = [*BOUND, sys.executable, "-m", "spaceevo.train", *LONG[:-1]]
    done = subprocess.run(line, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=PATIENCE_S)
    tmp_path.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr == f"error: run_dir=run: must be a folder that can be written to; {tmp_path} cannot\n"


COMPILED = """
import numpy as np
from spaceevo.nn import lsq_kernels
x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
lsq_kernels.forward(x, *map(np.float32, (0.5, 0, -8, 7)), y)
assert (y == x).all()
"""


@NEEDS_SETPRIV
@pytest.mark.parametrize("writable", [True, False], ids=["a temporary folder", "no place at all"])
def test_compiled_code_runs_where_nothing_can_be_cached(writable: bool, tmp_path: Path) -> None:
    package, place = tmp_path / "site" / "spaceevo", tmp_path / "place"
    shutil.copytree(ROOT / "src/spaceevo", package, ignore=shutil.ignore_patterns("__pycache__"))
    place.mkdir()
    for folder in (package / "nn", package, tmp_path, *([] if writable else [place])):
        folder.chmod(0o555)
    env = {**ENV, "PYTHONPATH": str(package.parent), "HOME": str(tmp_path / "none"), "TMPDIR": str(place)}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*BOUND, sys.executable, "-c", COMPILED], env=env, capture_output=True, text=True, cwd=tmp_path)
    for folder in (tmp_path, package, package / "nn", place):
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in place.iterdir()] == ([f"spaceevo-numba-{os.getuid()}"] if writable else [])
