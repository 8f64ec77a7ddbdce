"""What the site takes from the code: the pages of config keys and of commands (a hook of MkDocs makes them as it builds) and
``config.schema.json`` for editors, which ``python docs/generate.py`` writes."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING as NONE_GIVEN
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from spaceevo.app import help as texts
from spaceevo.app.commands import COMMANDS
from spaceevo.app.config import Config, compose
from spaceevo.paths import conf_dir
from spaceevo.settings import in_full
from spaceevo.steps import COMMANDS as OTHERS
from spaceevo.steps import STEPS

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "docs" / "config.schema.json"
#: Files of the repository's root that are pages of the site too.
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "experiments.md": "experiments/README.md"}
#: The rooms that are libraries too, from the ground up.
ROOMS = ("space", "evolution", "latency", "data", "nn", "training", "deploy")
REQUIRED = "???"
MADE_OF = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
INTERPOLATION = {"type": "string", "pattern": r"^\$\{.+\}$"}


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
    """Whether a value, or one of a list, may be a number."""
    kinds = {inner for one in alternatives(kind) for inner in ((get_args(one)) if get_origin(one) is list else (one,))}
    return bool({int, float} & kinds)


def bounds(may: Mapping[str, Any]) -> dict[str, float]:
    """The limits of a number, as JSON Schema names them."""
    names = {"least": "minimum", "below": "exclusiveMaximum", "most": "maximum"}
    found = {name: may[bound] for bound, name in names.items() if may[bound] is not None}
    return found if "minimum" in found else {"exclusiveMinimum": 0, **found}


def choices_of(may: Mapping[str, Any]) -> list[Any]:
    """What the value is one of; null as YAML has it."""
    return [None if choice == "null" else choice for choice in may["choices"]]


def may_be(may: Mapping[str, Any], kind: Any) -> str:
    """What a value, or each of a list, may be, in words."""
    if may["choices"]:
        return ", ".join(f"`{value_text(choice)}`" for choice in choices_of(may))
    if not numeric(kind):
        return ""
    words = {"exclusiveMinimum": "more than", "minimum": "at least", "exclusiveMaximum": "less than", "maximum": "at most"}
    return ", ".join(f"{words[name]} {in_full(value)}" for name, value in bounds(may).items()) + (
        " or 0" if may["zero"] else ""
    )


def value_text(value: Any) -> str:
    """A value as it is typed."""
    return "to be given" if value == REQUIRED else json.dumps(value) if not isinstance(value, str) else value


def summary_of(cls: type[Any]) -> str:
    """A section's docstring, with those of the sections it extends."""
    texts = [inspect.cleandoc(one.__doc__ or "") for one in reversed(cls.__mro__) if is_dataclass(one)]
    return "\n\n".join(texts).replace("``", "`")


def rules(cls: type[Any]) -> str:
    """What a section refuses beyond each key's own limits, as its ``check`` says."""
    said = (
        re.search(r"UserError: (.+)", inspect.cleandoc(cls.check.__doc__ or ""), re.DOTALL) if hasattr(cls, "check") else None
    )
    return f"Refused: {' '.join(said[1].split()).rstrip('.')}." if said else ""


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def table(prefix: str, cls: type[Any], values: Mapping[str, Any]) -> Iterator[str]:
    """The rows of a section; sections within it follow as tables of their own."""
    kinds, within = get_type_hints(cls), []
    yield "| key | type | default | what it may be | what it is |\n| --- | --- | --- | --- | --- |"
    for key in fields(cls):
        kind, inner = kinds[key.name], inner_class(kinds[key.name])
        if inner and prefix == "":
            continue  # a section of the top: a chapter of its own
        many = "[]" if inner and "list of" in type_words(kind) else ""
        default = "by the option" if inner else f"`{value_text(values[key.name])}`" if key.name in values else ""
        cells = [f"`{prefix}{key.name}`", type_words(kind), default, may_be(key.metadata, kind), key.metadata["text"]]
        yield f"| {' | '.join(map(cell, cells))} |"
        if inner:
            within.append((f"{prefix}{key.name}{many}", inner))
    for name, inner in within:
        yield f"\n### `{name}`\n\n{summary_of(inner)}\n"
        own = {
            key.name: key.default if key.default is not NONE_GIVEN else key.default_factory()  # type: ignore[misc]
            for key in fields(inner)
            if key.default != REQUIRED
        }
        yield from table(f"{name}.", inner, own)


def chapter(name: str, cls: type[Any], values: Mapping[str, Any]) -> Iterator[str]:
    """A section of the config."""
    yield f"\n## `{name}`\n\n{summary_of(cls)}\n"
    if (conf_dir() / name).is_dir():
        options = ", ".join(f"`{option}`" for option in texts.group_options(name))
        yield f"Chosen by name, `{name}=<option>`: {options}.\n"
    if said := rules(cls):
        yield f"{said}\n"
    yield from table(f"{name}.", cls, values)


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
        *table("", Config, values),
    ]
    for key in fields(Config):
        if is_dataclass(kinds[key.name]):
            lines += chapter(key.name, kinds[key.name], values[key.name])
    for command in OTHERS.values():
        if command.config is not None:
            given = yaml.safe_load((conf_dir() / f"{command.name}.yaml").read_text())
            lines += [f"\n## Of the command `{command.name}` alone\n\nIt has `data` as above, and these keys of its own.\n"]
            lines += table("", command.config, given)
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
        many = [", ".join(f"`{item}`" for item in items) for items in ((*step.inputs, *step.shows), step.outputs, step.keys)]
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
            if path.name[:2] != "__":
                lines += [f"\n::: {'.'.join(path.relative_to(ROOT / 'src').with_suffix('').parts)}"]
    return "\n".join(lines) + "\n"


def value_schema(kind: Any, may: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a value that is no interpolation."""
    found = []
    for one in alternatives(kind):
        if get_origin(one) is list:
            some = {"minItems": 1, "uniqueItems": True} if may["distinct"] else {}
            found.append({"type": "array", "items": value_schema(get_args(one)[0], may), **some})
        elif may["choices"]:
            return {"enum": choices_of(may)}
        elif is_dataclass(one):
            found.append(section_schema(one, {}))
        else:
            found.append({"type": JSON_TYPES[one], **(bounds(may) if one in (int, float) else {})})
    found += [{"const": 0}] if may["zero"] else []
    return found[0] if len(found) == 1 else {"anyOf": found}


def section_schema(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a section, of which a file may hold any part."""
    kinds, properties = get_type_hints(cls), {}
    for key in fields(cls):
        kind = kinds[key.name]
        if is_dataclass(kind):
            properties[key.name] = section_schema(kind, values.get(key.name, {}))
            continue
        schema: dict[str, Any] = {"anyOf": [value_schema(kind, key.metadata), {"$ref": "#/$defs/interpolation"}]}
        schema["description"] = key.metadata["text"]
        if key.name in values and inner_class(kind) is None:
            schema["default"] = values[key.name]
        properties[key.name] = schema
    return {"type": "object", "description": summary_of(cls), "properties": properties, "additionalProperties": False}


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config file: an experiment, or what is written at the top of one."""
    schema = section_schema(Config, asdict(compose()))
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
