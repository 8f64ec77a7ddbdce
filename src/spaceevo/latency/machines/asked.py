"""Another machine's Python, asked through a command: what is sent with every question, and how the answer is read."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from spaceevo.errors import UserError
from spaceevo.latency.machines.serve import question
from spaceevo.latency.runtimes.call import FILES
from spaceevo.paths import PACKAGE

#: What is sent: files of this package that need no others, and the folders they lie in.
SENT = (
    "errors.py",
    "latency/host.py",
    "latency/measure.py",
    "latency/runtimes/call.py",
    *(f"latency/runtimes/{name}.py" for name in FILES.values()),
    "latency/machines/serve.py",
)
FOLDERS = ("", "latency/", "latency/runtimes/", "latency/machines/")
#: Reads the length of what is sent, that, and then the question.
BEGIN = """
import sys, tempfile
if sys.version_info < (3, 10): sys.exit("needs Python 3.10 or newer, and is %d.%d" % sys.version_info[:2])
read = sys.stdin.buffer
sent = tempfile.NamedTemporaryFile(suffix=".zip")
sent.write(read.read(int(read.readline())))
sent.flush()
sys.path.insert(0, sent.name)
from spaceevo.latency.machines.serve import serve
print("\\n" + serve(read))
"""
Done = subprocess.CompletedProcess[bytes]


@cache
def sent() -> bytes:
    """The zip file that the other machine imports from."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as held:
        for folder in FOLDERS:
            held.writestr(f"spaceevo/{folder}__init__.py", "")
        for name in SENT:
            held.writestr(f"spaceevo/{name}", (PACKAGE / name).read_text())
    return file.getvalue()


def ask_through(
    command: Sequence[str],
    place: str,
    why: Callable[[Done], str],
    task: str,
    asked: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> Any:
    """What a Python answers that ``command`` runs ``BEGIN`` in. ``place``: names it in errors; ``why``: why there is no answer.

    Raises:
        UserError: it cannot answer, in one line.
        FileNotFoundError: there is no such command here.
    """
    given = b"%d\n" % len(sent()) + sent() + question(task, asked, files)
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode != 0:
        raise UserError(f"{place}: {why(done)}")
    told = json.loads(done.stdout.decode().strip().splitlines()[-1])
    if "answer" not in told:
        raise UserError(f"{place}: {told['refused']}")
    return told["answer"]


def last_line(done: Done) -> str:
    """The last that a command says of what went wrong."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
