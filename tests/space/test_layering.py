"""Which file may import which, read from the sources, and that the pure packages stay light; rooms: `make lint`."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import spaceevo

SOURCES = Path(spaceevo.__file__).parent
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


def modules() -> dict[str, Path]:
    """Every module's name and file."""
    found = {}
    for path in SOURCES.rglob("*.py"):
        parts = ("spaceevo", *path.relative_to(SOURCES).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: set[str]) -> set[str]:
    """The ``known`` modules that a source file imports, at its top, inside functions or for types."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else str(node.module) for name in full}
    return names & known


def test_no_circles_between_files() -> None:
    files = modules()
    graph = {name: imported(path, set(files)) - {name} for name, path in files.items()}
    assert sum(map(len, graph.values())) > 500
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_only_app_sees_the_whole_config_and_hydra() -> None:
    for name, path in modules().items():
        room = name.split(".")[1] if "." in name else ""
        if room not in ("app", *(file.stem for file in SOURCES.glob("*.py"))) and not name.endswith("__main__"):
            assert not any(module.startswith("spaceevo.app") for module in imported(path, set(modules()))), name


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import spaceevo.space, spaceevo.evolution", HEAVY),
        ("import spaceevo.latency.predictor, spaceevo.latency.limits", ("torch", "lightning", "hydra")),
        ("import spaceevo.steps, spaceevo.app.commands", ("torch", "lightning", "onnxruntime", "pandas", "numba")),
    ],
)
def test_imports_load_nothing_heavy(code: str, heavy: tuple[str, ...]) -> None:
    line = f"import sys; {code}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
