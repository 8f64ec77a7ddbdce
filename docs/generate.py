"""What the site takes from the code: the pages of config keys and of commands (a hook of MkDocs makes them as it builds) and
``config.schema.json`` for editors, which ``python docs/generate.py`` writes."""

from __future__ import annotations

import inspect
import json
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING as NONE_GIVEN
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from spaceevo.app import help as texts
from spaceevo.app.commands import COMMANDS
from spaceevo.app.config import Config, compose
from spaceevo.paths import conf_dir
from spaceevo.steps import STEPS
from spaceevo.steps.quantize import QuantizeConfig
from spaceevo.steps.verify import VerifyConfig

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "docs" / "config.schema.json"
#: Files of the repository's root that are pages of the site too.
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "experiments.md": "experiments/README.md"}
#: Commands with a config of their own.
ALONE: dict[str, type[Any]] = {"verify": VerifyConfig, "quantize": QuantizeConfig}
#: The rooms that are libraries too, from the ground up.
ROOMS = ("space", "evolution", "latency", "data", "nn", "training", "deploy")
REQUIRED = "???"
MADE_OF = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
INTERPOLATION = {"type": "string", "pattern": r"^\$\{.+\}$"}
TOP_KEYS = {
    **texts.COMMON_KEYS, **texts.SPACE_KEY, **texts.BASELINES_KEY, **texts.ALSO_KEY, **texts.LUT_KEY,
    "out_dir": "where a command writes, if not into the run folder",
    "model": "a published model, for `describe`",
}  # fmt: skip


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def inner_class(kind: Any) -> type[Any] | None:
    """The dataclass that a key's value, or every item of it, or what it may be beside null, is of."""
    for one in alternatives(kind):
        if get_origin(one) is list:
            return inner_class(get_args(one)[0])
        if is_dataclass(one):
            return one
    return None


def type_words(kind: Any) -> str:
    """A type as words: ``list of numbers``, ``text or null``."""
    words = []
    for one in alternatives(kind):
        if get_origin(one) is list:
            words.append(f"list of {type_words(get_args(one)[0])}s")
        else:
            words.append("section" if is_dataclass(one) else MADE_OF[one])
    return " or ".join(words)


def numeric(kind: Any) -> bool:
    """Whether a value may be a number."""
    return bool({int, float} & set(alternatives(kind)))


def bounds(key: Field[Any]) -> dict[str, float]:
    """The limits of a section's number, as JSON Schema names them."""
    least, below = key.metadata.get("least"), key.metadata.get("below")
    found: dict[str, float] = {}
    if least is None:
        found["exclusiveMinimum"] = 0
    elif math.isfinite(least):
        found["minimum"] = least
    if below is not None:
        found["exclusiveMaximum"] = below
    if key.metadata.get("most") is not None:
        found["maximum"] = key.metadata["most"]
    return found


def choices_of(key: Field[Any]) -> list[Any]:
    """What the value is one of; null as YAML has it."""
    return [None if choice == "null" else choice for choice in key.metadata.get("choices") or ()]


def may_be(key: Field[Any], kind: Any, checked: bool) -> str:
    """What a value may be, in words; only keys right below a section are ``checked`` by what `setting` says."""
    choices = choices_of(key)
    if choices:
        return ", ".join(f"`{value_text(choice)}`" for choice in choices)
    if not checked or not numeric(kind):
        return ""
    if key.metadata.get("least") == -math.inf:
        return "see the rules of its section"
    words = {"exclusiveMinimum": "more than", "minimum": "at least", "exclusiveMaximum": "less than", "maximum": "at most"}
    return ", ".join(f"{words[name]} {value:g}" for name, value in bounds(key).items())


def value_text(value: Any) -> str:
    """A value as it is typed."""
    return "to be given" if value == REQUIRED else json.dumps(value) if not isinstance(value, str) else value


def split_doc(cls: type[Any]) -> tuple[str, dict[str, str]]:
    """A section's docstring, with those of the sections it extends, less its ``Attributes:``, and these by key."""
    summary, keys = [], {}
    for one in reversed([c for c in cls.__mro__ if is_dataclass(c)]):
        text, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:\n")
        summary.append(text.strip().replace("``", "`"))
        for name, words in re.findall(r"^    (\w+): ((?:.|\n(?=     ))+)", attributes, re.MULTILINE):
            keys[name] = " ".join(words.split()).replace("``", "`")
    return "\n\n".join(summary), keys


def rules(cls: type[Any]) -> str:
    """What a section refuses beyond each key's own limits, as its ``check`` says."""
    said = (
        re.search(r"UserError: (.+)", inspect.cleandoc(cls.check.__doc__ or ""), re.DOTALL) if hasattr(cls, "check") else None
    )
    return f"Refused: {' '.join(said[1].split()).rstrip('.')}." if said else ""


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def table(prefix: str, cls: type[Any], values: Mapping[str, Any], words: Mapping[str, str], checked: bool) -> Iterator[str]:
    """The rows of a section; sections within it follow as tables of their own."""
    kinds, within = get_type_hints(cls), []
    yield "| key | type | default | what it may be | what it is |\n| --- | --- | --- | --- | --- |"
    for key in fields(cls):
        kind, inner = kinds[key.name], inner_class(kinds[key.name])
        if inner and prefix == "":
            continue  # a section of the top: a chapter of its own
        many = "[]" if inner and "list of" in type_words(kind) else ""
        default = "by the option" if inner else f"`{value_text(values[key.name])}`" if key.name in values else ""
        cells = [f"`{prefix}{key.name}`", type_words(kind), default, may_be(key, kind, checked), words.get(key.name, "")]
        yield f"| {' | '.join(map(cell, cells))} |"
        if inner:
            within.append((f"{prefix}{key.name}{many}", inner))
    for name, inner in within:
        summary, its_words = split_doc(inner)
        yield f"\n### `{name}`\n\n{summary}\n"
        own = {
            key.name: key.default if key.default is not NONE_GIVEN else key.default_factory()  # type: ignore[misc]
            for key in fields(inner)
            if (key.default is not NONE_GIVEN or key.default_factory is not NONE_GIVEN) and key.default != REQUIRED
        }
        yield from table(f"{name}.", inner, own, its_words, False)


def chapter(name: str, cls: type[Any], values: Mapping[str, Any]) -> Iterator[str]:
    """A section of the config."""
    summary, words = split_doc(cls)
    yield f"\n## `{name}`\n\n{summary}\n"
    if (conf_dir() / name).is_dir():
        options = ", ".join(f"`{option}`" for option in texts.group_options(name))
        yield f"Chosen by name, `{name}=<option>`: {options}.\n"
    if said := rules(cls):
        yield f"{said}\n"
    yield from table(f"{name}.", cls, values, words, True)


def config_page() -> str:
    """Every key of the config."""
    values, kinds = asdict(compose()), get_type_hints(Config)
    lines = [
        "# Config keys",
        "",
        "Made from the dataclasses of the code and the files in `conf/`. A default is what `python -m spaceevo.pipeline` takes",
        "where nothing else is said. `docs/config.schema.json` has the same for editors: begin an experiment file with",
        "`# yaml-language-server: $schema=../docs/config.schema.json`.",
        "",
        "## Of every command",
        "",
        *table("", Config, values, TOP_KEYS, True),
    ]
    for key in fields(Config):
        if is_dataclass(kinds[key.name]):
            lines += chapter(key.name, kinds[key.name], values[key.name])
    for command, cls in ALONE.items():
        given = yaml.safe_load((conf_dir() / f"{command}.yaml").read_text())
        words = {**texts.ALONE[command][1], **split_doc(cls)[1]}
        lines += [f"\n## Of the command `{command}` alone\n\nIt has `data` as above, and these keys of its own.\n"]
        lines += table("", cls, given, words, False)
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """What every command says with ``--help``."""
    lines = [
        "# Commands",
        "",
        "What each says with `--help`; `python -m spaceevo` lists them, and `spaceevo <command>` is the same as",
        "`python -m spaceevo.<command>`.",
    ]
    for command in COMMANDS:
        lines += [f"\n## {command}\n\n```text\n{texts.entrypoint_help(command)}\n```"]
    return "\n".join(lines) + "\n"


def steps_page() -> str:
    """What every step reads, writes and is made old by."""
    lines = [
        "# Steps",
        "",
        "In the order in which they run. A changed key, seed, input or version makes a step's files old.",
        "",
    ]
    lines += ["| step | command | what it does | reads | writes | keys |", "| --- | --- | --- | --- | --- | --- |"]
    for step in STEPS.values():
        many = [", ".join(f"`{item}`" for item in items) for items in (step.inputs, step.outputs, step.keys)]
        name = f"`{step.name}`{' (optional)' if step.optional else ''}"
        lines.append(f"| {' | '.join(map(cell, [name, f'`{step.command}`', step.summary, *many]))} |")
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """What to show of the rooms: of those that say themselves what is public that, else every module."""
    lines = [
        "# Python interface",
        "",
        "What each room offers to code outside it; [a room as a library](../library.md) has examples.",
    ]
    for room in ROOMS:
        folder = ROOT / "src" / "spaceevo" / room
        lines += [f"\n## {room}"]
        modules = [folder] if room in ("space", "evolution") else sorted(folder.rglob("*.py"))
        for path in modules:
            if path.name != "__init__.py":
                lines += [f"\n::: {'.'.join(path.relative_to(ROOT / 'src').with_suffix('').parts)}"]
    return "\n".join(lines) + "\n"


def value_schema(kind: Any, key: Field[Any] | None, checked: bool) -> dict[str, Any]:
    """The schema of a value that is no interpolation."""
    choices = choices_of(key) if key else []
    if choices:
        return {"enum": choices}
    found = []
    for one in alternatives(kind):
        if get_origin(one) is list:
            found.append({"type": "array", "items": value_schema(get_args(one)[0], None, False)})
        elif is_dataclass(one):
            found.append(section_schema(one, {}, False))
        else:
            limits = bounds(key) if key and checked and one in (int, float) else {}
            found.append({"type": JSON_TYPES[one], **limits})
    return found[0] if len(found) == 1 else {"anyOf": found}


def section_schema(cls: type[Any], values: Mapping[str, Any], checked: bool) -> dict[str, Any]:
    """The schema of a section, of which a file may hold any part."""
    kinds, (summary, words), properties = get_type_hints(cls), split_doc(cls), {}
    words = {**TOP_KEYS, **words} if cls is Config else words
    for key in fields(cls):
        kind = kinds[key.name]
        if is_dataclass(kind):
            properties[key.name] = section_schema(kind, values.get(key.name, {}), checked)
            continue
        schema: dict[str, Any] = {"anyOf": [value_schema(kind, key, checked), {"$ref": "#/$defs/interpolation"}]}
        if key.name in words:
            schema["description"] = words[key.name]
        if key.name in values and inner_class(kind) is None:
            schema["default"] = values[key.name]
        properties[key.name] = schema
    return {"type": "object", "description": summary, "properties": properties, "additionalProperties": False}


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config file: an experiment, or what is written at the top of one."""
    schema = section_schema(Config, asdict(compose()), True)
    schema["properties"] |= {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "SpaceEvo config"}
    return {**head, "$defs": {"interpolation": INTERPOLATION}, **schema}


def schema_text() -> str:
    """The schema as the file has it."""
    return json.dumps(config_schema(), indent=1) + "\n"


#: The generated pages by their path below ``docs``.
PAGES: dict[str, Callable[[], str]] = {
    "reference/config.md": config_page,
    "reference/commands.md": commands_page,
    "reference/steps.md": steps_page,
    "reference/python.md": python_page,
    **{page: (ROOT / source).read_text for page, source in ROOT_PAGES.items()},
}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs asks for the site's files: the generated pages join them."""
    from mkdocs.structure.files import File

    for path, text in PAGES.items():
        files.append(File.generated(config, path, content=text()))
    return files


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
