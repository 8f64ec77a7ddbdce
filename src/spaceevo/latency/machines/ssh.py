"""A machine behind ssh. It needs python3, numpy and the runtime: all else is sent with every question, and nothing stays."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from spaceevo.errors import UserError, bad_value
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
#: Never asks for a password; gives up on a machine that does not answer for a minute.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
SSH_FAILED = 255
HINTS = {
    "Host key verification failed": "connect once by hand, `ssh {host}`, and compare its key",
    "Permission denied": "give it your key: `ssh-copy-id {host}`",
}


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


@dataclass(frozen=True)
class Ssh:
    """``host``: as ssh takes it, ``pi@raspberrypi`` or ``ssh://pi@raspberrypi:2222``; ``python``: the interpreter there."""

    host: str
    python: str

    def ask(self, task: str, asked: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
        """See :data:`spaceevo.latency.machines.machine.Ask`.

        Raises:
            UserError: the machine cannot be reached, or cannot answer; what to do about it.
        """
        if self.host.startswith("-"):
            raise bad_value("device.host", self.host, "a host as ssh takes it, e.g. pi@raspberrypi")
        command = ["ssh", *OPTIONS, self.host, f"{self.python} -c {shlex.quote(BEGIN)}"]
        given = b"%d\n" % len(sent()) + sent() + question(task, asked, files)
        try:
            done = subprocess.run(command, input=given, capture_output=True)
        except FileNotFoundError:
            raise UserError("device.at=ssh: there is no ssh here; install Debian's openssh-client") from None
        if done.returncode == 0:
            told = json.loads(done.stdout.decode().strip().splitlines()[-1])
            if "answer" in told:
                return told["answer"]
            raise UserError(f"device.host={self.host}: {told['refused']}")
        raise UserError(f"device.host={self.host}: {self._why(done)}")

    def _why(self, done: subprocess.CompletedProcess[bytes]) -> str:
        """Why there is no answer, in one line."""
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit code {done.returncode}"
        for told, hint in HINTS.items():
            if done.returncode == SSH_FAILED and told in last:
                return f"{last} ({hint.format(host=self.host)})"
        if done.returncode == 127:
            return f"no {self.python} there ({last}); install it, or say which: device.python=<path>, of verify python=<path>"
        if "No module named 'numpy'" in last:
            return "numpy is not there; pip install numpy"
        return last if done.returncode != SSH_FAILED or lines else "the connection ended"
