"""Which package may import which, read from the sources, and that the pure packages stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spaceevo

SOURCES = Path(spaceevo.__file__).parent
BASE = {"errors", "paths", "atomic"}
#: What each package may import of spaceevo besides itself.
ALLOWED = {
    "space": BASE,
    "evolution": BASE | {"space"},
    "latency": BASE | {"space", "evolution"},
    "nn": BASE | {"space", "evolution"},
    "deploy": BASE | {"space", "evolution", "latency", "nn"},
}
HEAVY = (
    "torch",
    "lightning",
    "onnxruntime",
    "onnx",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "numba",
    "llvmlite",
    "hydra",
    "omegaconf",
    "matplotlib",
)


def imported(path: Path) -> set[str]:
    """The parts of spaceevo that a source file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("spaceevo.")}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    files = list((SOURCES / package).rglob("*.py"))
    assert files
    found = {path.name: sorted(imported(path) - ALLOWED[package] - {package}) for path in files}
    assert {name: upward for name, upward in found.items() if upward} == {}


def test_import_of_pure_packages_loads_nothing_heavy() -> None:
    code = f"import sys, spaceevo.space, spaceevo.evolution; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
