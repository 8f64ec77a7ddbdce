"""The help texts: from the registry of steps, the config sections, the config folder and the defaults in it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from spaceevo.app.config import Config, compose
from spaceevo.paths import conf_dir
from spaceevo.steps import COMMANDS, STEPS
from spaceevo.steps.step import Command, Step

WIDTH = 118
#: Groups whose options set keys of a section with another name, or of many.
MORE_GROUPS = {
    "search": "how search spaces are searched",
    "subnet_search": "how subnets are searched",
    "experiment": "a whole run: many of the above at once",
}
#: Keys of the top that every command of a run has.
COMMON = ("name", "run_dir", "seed", "threads", "runtime", "start_over", "debug")
#: Sections that are chosen by name as a whole.
CHOSEN = ("device", "latency", "hyperspace", "blocks")
PIPELINE = (
    "experiment=demo",
    "experiment=demo latency.limits_ms=[0.3,0.5,0.8]",
    "hyperspace=demo blocks=mobile name=mobile",
)
SWEEPS = """\
-m runs every combination of comma-separated values, each in a folder of its own, and sums them up; again, what is
missing. hydra/launcher=joblib, ray, submitit_local or submitit_slurm runs them side by side."""


def groups() -> dict[str, str]:
    """What is chosen by name, and what it is."""
    kinds = get_type_hints(Config)
    named = [name for entry in _defaults("base") if isinstance(entry, dict) for name in entry if "/" not in name]
    return {name: MORE_GROUPS[name] if name in MORE_GROUPS else _what(kinds[name]) for name in named}


def _what(section: type[Any]) -> str:
    """What a section is: the first words of its docstring, as a part of a sentence."""
    text = inspect.cleandoc(section.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "").rstrip(".")
    return text[0].lower() + text[1:]


def overview() -> str:
    """What ``python -m spaceevo`` prints: every entrypoint with what it reads and writes."""
    lines = ["SpaceEvo: images, a device and latency limits in, verified INT8 models out.", ""]
    lines += [
        "python -m spaceevo.pipeline [key=value ...]",
        "    runs all of the following in order but the optional ones, what is not up to date",
        "",
    ]
    for step in STEPS.values():
        lines += [f"python -m spaceevo.{step.command}", f"    {step.summary}", *_files(step, "    "), ""]
    for command in COMMANDS.values():
        lines += [f"python -m spaceevo.{command.name}", *_wrapped("    ", command.summary), ""]
    lines.append("Files lie in the run folder, runs/<name>. Any of them with --help explains its keys.")
    return "\n".join(lines)


def entrypoint_help(config_name: str) -> str:
    """What ``python -m spaceevo.<entrypoint> --help`` prints."""
    command = COMMANDS.get(config_name)
    if command is not None and command.config is not None:
        return _alone(command)
    steps = [step for step in STEPS.values() if step.command.split()[0] == config_name]
    lines = [f"python -m spaceevo.{config_name} [key=value ...]", "", *_says(config_name, steps)]
    lines += ["", "Chosen by name (group=option; * is the default):"]
    for group, what in groups().items():
        if group != "stage" or config_name == "train":
            lines += ["", f"  {group}: {what}", *_options(group, _default_of("base", group))]
    defaults = asdict(compose(config_name))
    lines += ["", "Keys (key=value):", *_run_keys(config_name, steps, defaults), "", "Examples:"]
    examples = command.examples if command else PIPELINE if config_name == "pipeline" else ()
    examples += tuple(example for step in steps for example in step.examples)
    lines += [f"  python -m spaceevo.{config_name} {text}" for text in examples]
    return "\n".join([*lines, "", SWEEPS])


def _says(config_name: str, steps: list[Step]) -> Iterator[str]:
    """What a command of a run does."""
    if config_name in COMMANDS:
        yield from _wrapped("", f"{_sentence(COMMANDS[config_name].summary)}.")
    if config_name == "pipeline":
        yield "Runs every step that is not up to date, in order, from where a killed run stopped:"
        yield from _wrapped("  ", ", ".join(step.name for step in STEPS.values() if not step.optional))
        yield from ("", "Reads images; writes everything below the run folder, report.html last.")
    for step in steps:
        title = f"stage={step.name}: " if config_name == "train" else ""
        yield from _wrapped("", f"{title}{_sentence(step.summary)}.")
        yield from _files(step, "  ")


def _run_keys(config_name: str, steps: list[Step], defaults: dict[str, Any]) -> Iterator[str]:
    """The keys that a command of a run reads, each with what it is; of the whole pipeline's sections only their values."""
    kinds = get_type_hints(Config)
    if config_name in COMMANDS:
        read = set(COMMANDS[config_name].takes)
    elif config_name == "pipeline":
        read = {key for step in STEPS.values() if not step.optional for key in (*step.keys, *step.takes)} | {"also"}
    else:
        read = {key for step in steps for key in (*step.keys, *step.takes)}
    for key in fields(Config):
        if not is_dataclass(kinds[key.name]) and key.name in {*COMMON, *read}:
            yield from _key(key.name, defaults[key.name], key)
    yield from ("", "  `python -m spaceevo.<step> --help` says what these are:") if config_name == "pipeline" else ()
    for name in (name for name in kinds if name in read and is_dataclass(kinds[name]) and name not in CHOSEN):
        values = defaults[name]
        if config_name == "pipeline":
            yield from _wrapped("  ", " ".join(f"{name}.{key}={_value(value)}" for key, value in values.items()))
            continue
        yield from ("", *_wrapped("  ", f"{name}: {_what(kinds[name])}"))
        for key in fields(kinds[name]):
            yield from _key(f"{name}.{key.name}", values[key.name], key)


def _key(name: str, value: Any, key: Field[Any]) -> list[str]:
    """A key with its value and what it is."""
    head = f"  {f'{name}={_value(value)}':<31} "
    text = key.metadata["text"]
    return _wrapped(head, text) if len(head) <= 34 else [head.rstrip(), *_wrapped(" " * 34, text)]


def _alone(command: Command) -> str:
    """The help of a command with a config of its own."""
    assert command.config is not None
    defaults = yaml.safe_load((conf_dir() / f"{command.name}.yaml").read_text())
    kinds = get_type_hints(command.config)
    lines = [f"python -m spaceevo.{command.name} [key=value ...]", "", *_wrapped("", f"{_sentence(command.summary)}."), ""]
    lines += ["Keys (key=value):"]
    for key in fields(command.config):
        if not is_dataclass(kinds[key.name]):
            lines += _key(key.name, defaults[key.name], key)
    if "data" in kinds:
        chosen = _default_of(command.name, "data")
        whose = " (default: as the card says)" if chosen is None else ""
        lines += ["", f"  data: {_what(kinds['data'])}{whose}", *_options("data", chosen)]
    lines += ["", "Examples:"]
    return "\n".join([*lines, *(f"  python -m spaceevo.{command.name} {text}" for text in command.examples)])


def group_options(group: str) -> list[str]:
    """The names a group offers."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def description(path: Path) -> str:
    """An option's own words: the first comment of its file."""
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def _options(group: str, default: str | None) -> list[str]:
    options = group_options(group)
    width = max((len(name) for name in options), default=0)
    lines = []
    for name in options:
        mark = "*" if name == default else " "
        lines += _wrapped(f"  {mark} {name:<{width}}  ", description(conf_dir() / group / f"{name}.yaml"))
    return lines


def _default_of(config_name: str, group: str) -> str | None:
    """The option of a group that a config chooses."""
    return next((entry[group] for entry in _defaults(config_name) if isinstance(entry, dict) and group in entry), None)


def _defaults(config_name: str) -> list[Any]:
    """The list ``defaults`` of a config file."""
    return yaml.safe_load((conf_dir() / f"{config_name}.yaml").read_text())["defaults"]


def _files(step: Step, indent: str) -> list[str]:
    """What a step reads and writes."""
    shown = [f"{path} (if there are any)" for path in step.shows]
    reads = ", ".join([*step.inputs, *shown]) or ("images" if "data.name" in step.keys else "no file")
    return [*_wrapped(f"{indent}reads  ", reads), *_wrapped(f"{indent}writes ", ", ".join(step.outputs))]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False, break_long_words=False
    )
