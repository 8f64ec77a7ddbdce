"""Whatever is typed, a command starts or refuses it in one line within five seconds: values drawn from the schema, and beside
them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.app.cli import FAILED, entrypoint
from spaceevo.app.commands import COMMANDS

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "config.schema.json").read_text())
ALWAYS = ("pipeline", "search_subnet", "train")  # the others only in `make test-all`
EXAMPLES = 3 if os.environ.get("HYPOTHESIS_PROFILE") == "same" else 40
BESIDE = (
    "nan", "inf", "-inf", "-1", "0", "1e999", "9" * 30, "null", "true", "[]", "{}", "[1,-1]", "[nan]", "[[1]]", "{a:1}", "''",
    "ä=ö", "a b", "${x}", "${seed}", "???", "relu", "../x", "/", "#", "'", "[1", "1_000", "0x10", "auto", "on", "\\", "$",
)  # fmt: skip


def keys_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the schema with what it may be."""
    for name, inner in schema.get("properties", {}).items():
        if "properties" in inner:
            yield from keys_of(inner, f"{prefix}{name}.")
        elif name not in ("defaults", "hydra"):
            yield prefix + name, inner


#: But for the one that asks for a traceback.
KEYS = {key: inner for key, inner in keys_of(SCHEMA) if key != "debug"}


def kinds(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plain types that a key may have."""
    for inner in schema.get("anyOf", [schema]):
        if "anyOf" in inner:
            yield from kinds(inner)
        elif "$ref" not in inner:
            yield inner


def text_of(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@st.composite
def typed(draw: st.DrawFn) -> str:
    """``key=value``: of the key's type, at or beyond its ends as well, or something else."""
    key = draw(st.sampled_from(sorted(KEYS)))
    if draw(st.booleans()):
        return f"{key}={draw(st.sampled_from(BESIDE))}"
    return f"{key}={text_of(draw(value_of(draw(st.sampled_from([*kinds(KEYS[key])] or [{}])))))}"


def value_of(kind: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in kind:
        return st.sampled_from(kind["enum"])
    match kind.get("type"):
        case "integer":
            return st.one_of(st.integers(0, 4), st.integers(-(2**40), 2**40))
        case "number":
            return st.one_of(st.floats(0, 1), st.floats())
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(value_of(kind.get("items", {})), max_size=3)
        case "null":
            return st.none()
    return st.text("abcäö019 _-./=#", max_size=8)


def typed_in(command: str, arguments: list[str]) -> tuple[int, str]:
    """The exit code and standard error of a command that does nothing once it has started."""
    said, code = io.StringIO(), 0
    with mock.patch.object(sys, "argv", [command, *arguments]), contextlib.redirect_stderr(said):
        try:
            entrypoint(command, lambda cfg: None)()
        except SystemExit as left:
            code = int(left.code or 0)
    return code, said.getvalue()


@pytest.mark.parametrize(
    "command", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in sorted(COMMANDS)]
)
@settings(max_examples=EXAMPLES, deadline=5000)
@given(arguments=st.lists(typed(), min_size=1, max_size=3))
def test_what_is_typed_starts_or_is_refused_in_a_line(command: str, arguments: list[str]) -> None:
    code, said = typed_in(command, arguments)
    if code == 0:
        assert said == ""
        return
    assert code == FAILED
    assert re.fullmatch(r"error: [^\n]{10,}\n", said), said
    assert not re.search(r"\b[A-Z]\w+(Error|Exception)\b|Traceback|NoneType|omegaconf|hydra\.", said), said
