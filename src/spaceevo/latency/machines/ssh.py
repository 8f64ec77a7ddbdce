"""A machine behind ssh. It needs python3, numpy and the runtime: all else is sent with every question, and nothing stays."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaceevo.errors import UserError, bad_value
from spaceevo.latency.machines.asked import BEGIN, ask_through, last_line

#: Never asks for a password; gives up on a machine that does not answer for a minute.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
SSH_FAILED = 255
HINTS = {
    "Host key verification failed": "connect once by hand, `ssh {host}`, and compare its key",
    "Permission denied": "give it your key: `ssh-copy-id {host}`",
}


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
        try:
            return ask_through(command, f"device.host={self.host}", self._why, task, asked, files)
        except FileNotFoundError:
            raise UserError("device.at=ssh: there is no ssh here; install Debian's openssh-client") from None

    def _why(self, done: subprocess.CompletedProcess[bytes]) -> str:
        """Why there is no answer, in one line."""
        last = last_line(done)
        for told, hint in HINTS.items():
            if done.returncode == SSH_FAILED and told in last:
                return f"{last} ({hint.format(host=self.host)})"
        if done.returncode == 127:
            return f"no {self.python} there ({last}); install it, or say which: device.python=<path>, of verify python=<path>"
        if "No module named 'numpy'" in last:
            return "numpy is not there; pip install numpy"
        return last if done.returncode != SSH_FAILED or done.stderr.strip() else "the connection ended"
