"""What a step sees of a run: where its files lie, and what it may ask of whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaceevo.provenance import Record, matches

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.data.config import DataConfig


def say(text: str) -> None:
    """One line on standard output."""
    print(text, flush=True)


@cache
def usable_threads(asked: int) -> int:
    """As many as are ``asked`` for, 0 for one a core; not more than there are cores, which is said once."""
    cores = os.cpu_count() or max(1, asked)
    if asked > cores:
        say(f"threads={asked}: this machine has {cores} cores, and so many threads are used: more would wait for each other")
    return min(asked or cores, cores)


@dataclass(frozen=True)
class Folder:
    """The run folder as the step ``step`` sees it.

    Attributes:
        reads: the inputs of the step under this config, paths or globs.
        out: the run's own folder, where everything is written.
        shared: for a job of a multirun the folder behind it, from which is read what the job has not made; else ``out``.
        images: the images a config section describes, with test images or without; refuses a split that is not the run's.
        maker: what to type to make an artifact, a path or glob of a step's outputs, with the same config.
        steps: the names of all that leave records, in order, and whether each is optional.
        subset: the values of config subtrees, flat, as a record has them.
        records: what is recorded of the steps that made the run, in order.
        execute: runs another step with some of the config replaced, unless it is up to date; returns whether it ran.
    """

    step: str
    reads: tuple[str, ...]
    out: Path
    shared: Path
    images: Callable[[DataConfig, bool], Images]
    maker: Callable[[str], str]
    steps: Mapping[str, bool]
    subset: Callable[[tuple[str, ...]], dict[str, Any]]
    records: Callable[[], list[Record]]
    execute: Callable[[str, dict[str, Any]], bool]

    def input(self, relative: str) -> Path:
        """An artifact to read: of the run's own folder, or else of the shared one."""
        return holder_of(relative, self.out, self.shared) / relative

    def inputs(self, pattern: str) -> list[Path]:
        """The artifacts to read that ``pattern`` names, sorted."""
        folder = holder_of(pattern, self.out, self.shared)
        return [folder / path for path in matches(folder, [pattern])]

    def output(self, relative: str) -> Path:
        """Where to write an artifact; its folder is made."""
        path = self.out / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def partial(self) -> Path:
        """The folder for what the step needs to go on after a kill; emptied when its config or inputs change."""
        folder = self.out / "partial" / self.step
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def holder_of(pattern: str, *folders: Path) -> Path:
    """The first of ``folders`` with a file that ``pattern`` names, else the first of all."""
    return next((folder for folder in folders if matches(folder, [pattern])), folders[0])
