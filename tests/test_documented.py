"""Everything public says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import spaceevo

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
