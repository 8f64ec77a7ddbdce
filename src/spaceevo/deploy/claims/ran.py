"""What a card tells of files in runtimes: of each file in its own, and of some in others that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaceevo.deploy.claims.gate import OTHERS
from spaceevo.deploy.runtimes.registry import RUNTIMES, Runtime, runtime_of


@dataclass(frozen=True, eq=False)
class Ran:
    """A ``file`` in the ``runtime`` of that name: ``claims``, what the card tells of it, at the card's ``key``. ``own``: the
    file was written for it."""

    file: str
    runtime: str
    key: str
    claims: dict[str, Any]
    own: bool

    @property
    def words(self) -> str:
        """What it is called in a table."""
        return self.file if self.own else f"{self.file} in {self.runtime}"

    @property
    def by(self) -> Runtime | None:
        """What runs it, None where nothing here does; a file's own runtime shows by its ending, whatever the card says."""
        if self.own:
            return runtime_of(self.file)
        runtime = RUNTIMES.get(self.runtime)
        return runtime if runtime is not None and runtime.reads(self.file) else None


def ran(card: Mapping[str, Any]) -> list[Ran]:
    """All of a ``card``; those in their own runtimes first."""
    own = [Ran(name, claims["runtime"], f"files/{name}", claims, True) for name, claims in card["files"].items()]
    others = card.get(OTHERS, {}).items()
    return own + [
        Ran(name, runtime, f"{OTHERS}/{runtime}/{name}", claims, False)
        for runtime, files in others
        for name, claims in files.items()
    ]


def place_of(runtime: Runtime) -> str:
    """Where a card tells of the files in a runtime."""
    return "files" if runtime.owns else f"{OTHERS}/{runtime.name}"


def in_runtime(told: Mapping[str, Any], runtime: Runtime) -> dict[str, dict[str, Any]]:
    """What ``told``, a card or what becomes one, tells of the files in a runtime."""
    files: dict[str, dict[str, Any]] = told["files"] if runtime.owns else told[OTHERS][runtime.name]
    return files
