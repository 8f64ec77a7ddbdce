"""The ``main`` of every command. Imports little: a command that is stopped while it loads the rest ends as one at work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from spaceevo.app.cli import entrypoint


def run_command(command: str, cfg: Any) -> object:
    """What ``command`` does with its config."""
    from spaceevo.app.commands import COMMANDS

    return COMMANDS[command](cfg)


def main_for(command: str) -> Callable[[], None]:
    """The ``main`` of ``command``, which reads the command line."""
    return entrypoint(command, partial(run_command, command))
