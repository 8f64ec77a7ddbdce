"""What a run folder's records say, and what a file is: shared by those who write them and those who show them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spaceevo.paths import PACKAGE

Record = dict[str, Any]
#: Artifacts that are named in several places.
KERNELS, PREDICTOR, TAU, FIG8 = "latency/kernels.parquet", "latency/predictor.json", "tau.parquet", "fig8_qt.parquet"


def matches(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The files in ``folder`` that ``patterns`` name, relative to it; hidden ones are unfinished and not among them."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."}
    return sorted(str(path.relative_to(folder)) for path in found)


def read_record(folder: Path, step: str) -> Record | None:
    """The provenance of ``step``, None where there is none that can be read."""
    try:
        record = json.loads((folder / "provenance" / f"{step}.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "outputs" in record else None


def sha256(path: Path) -> str:
    """Of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version() -> str:
    """``<package version>[+<git commit>[.dirty]]``."""
    try:
        text = version("spaceevo")
    except PackageNotFoundError:
        text = "0.0.0"
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return text
    return f"{text}+{commit}{'.dirty' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


def _git(*arguments: str) -> str:
    if not (PACKAGE.parents[1] / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
