"""Everything public says what it is, every key of the config too; files and functions are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import spaceevo
from spaceevo.app.config import Config
from spaceevo.steps import COMMANDS

FILES = sorted(Path(spaceevo.__file__).parent.rglob("*.py"))
#: What a framework names, and says what it is.
HOOKS = {
    "forward", "backward", "step", "training_step", "configure_optimizers", "on_before_optimizer_step", "on_train_epoch_end",
    "set_epoch", "train_dataloader", "on_after_batch_transfer",
}  # fmt: skip


def public(body: list[ast.stmt], of: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{of}{node.name}", node
            protocol = isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
            if isinstance(node, ast.ClassDef) and not protocol:  # a protocol's attributes are their types
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    undocumented = [name for name, node in public(tree.body) if not ast.get_docstring(node)]
    assert [name for name in undocumented if name.split(".")[-1] not in HOOKS] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50] == []


def keys(section: type[Any], name: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every key of a section and of those within it, with its type."""
    kinds = get_type_hints(section)
    for key in fields(section):
        kind = kinds[key.name]
        if not is_dataclass(kind):
            yield f"{name}{key.name}", key, kind
        for inner in (kind, *get_args(kind), *(part for one in get_args(kind) for part in get_args(one))):
            if is_dataclass(inner):
                yield from keys(inner, f"{name}{key.name}.")


@pytest.mark.parametrize("section", [Config, *(c.config for c in COMMANDS.values() if c.config)], ids=lambda s: s.__name__)
def test_every_key_says_what_it_is_and_every_number_has_two_ends(section: type[Any]) -> None:
    found = list(keys(section))
    assert len(found) > 7
    assert [name for name, key, _ in found if not key.metadata.get("text", "").strip()] == []
    numbers = [
        (name, key) for name, key, kind in found if re.search(r"\b(int|float)\b", str(kind)) and not key.metadata["choices"]
    ]
    assert [name for name, key in numbers if key.metadata["below"] is None and key.metadata["most"] is None] == []
