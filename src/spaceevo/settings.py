"""The keys of a config section: each says beside its definition what it is and what it may be; its value is in ``conf``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from spaceevo.errors import bad_choice, bad_value

Section = TypeVar("Section")

# Most that keys of many sections may be: far above what anybody means, and below what fills a memory or runs for ever
EPOCHS = 100_000
IMAGES = 1_000_000_000
COUNT = 1_000_000  # of models, subnets, rounds, steps of a search
RATE = 10  # a learning rate, or a weight decay
SECONDS = 100_000_000  # three years
PIXELS = 16_384  # of a side
CHANNELS = 65_536
THREADS = 4096
SEED = 2**32 - 1


def setting(
    text: str,
    *,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: tuple[object, ...] = (),
    distinct: bool = False,
    zero: str = "",
    default: Any = MISSING,
) -> Any:
    """A key, and in ``text`` what it is, with its unit. It may be one of ``choices``, or a number that is finite and more than
    0, as every other one, but for what is said here: ``least`` or more, and less than ``below``, or at ``most``. Of a list this
    holds for every item; a ``distinct`` one has one or more, without repeats. ``zero``: 0 may be too, and what it means."""
    may = dict(text=text, least=least, below=below, most=most, choices=choices, distinct=distinct, zero=zero)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=may)
    return field(default=default, metadata=may)


def check_section(name: str, section: Any) -> None:
    """Every value of a section, and of those within it, that cannot be, then what its own ``check`` says of several of them.
    What has no value yet passes.

    Raises:
        UserError: the key, the value and what is allowed.
    """
    for key in fields(section):
        full, value = f"{name}.{key.name}" if name else key.name, getattr(section, key.name)
        if is_dataclass(value):
            check_section(full, value)
            continue
        for place, item in enumerate(value if isinstance(value, list) else [value]):
            if is_dataclass(item):
                check_section(f"{full}.{place}", item)
            elif key.metadata["choices"] and item != MISSING and _typed(item) not in map(str, key.metadata["choices"]):
                raise bad_choice(full, item, key.metadata["choices"])
        allowed = _refused(value, key.metadata)
        if allowed is not None:
            raise bad_value(full, value, f"{'null or ' if str(key.type).endswith('| None') else ''}{allowed}")
    if hasattr(section, "check"):
        section.check()


def _typed(value: object) -> str:
    return "null" if value is None else str(value)


def _refused(value: Any, may: Mapping[str, Any]) -> str | None:
    """What is allowed instead of a number or a list, None where it may be."""
    if not isinstance(value, list):
        return next((allowed for beyond, allowed in _bounds(value, may) if beyond), None)
    beyond = any(beyond for item in value for beyond, _ in _bounds(item, may))
    bad = beyond or (may["distinct"] and (not value or len(set(value)) < len(value)))
    return _allowed_list(may) if bad else None


def _bounds(value: object, may: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Every bound of a number: whether ``value`` is beyond it, and what is allowed."""
    if may["choices"] or isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    least, below, most = may["least"], may["below"], may["most"]
    first = ("more than 0" if least is None else f"{in_full(least)} or more") + (may["zero"] and f", {may['zero']}")
    if may["zero"] and value == 0:
        return
    yield value != value, f"a number, {first}"  # NaN
    yield value <= 0 if least is None else value < least, first
    if below is not None:
        yield value >= below, f"less than {in_full(below)}"
    if most is not None:
        yield value > most, f"{in_full(most)} or less"
    yield abs(value) == math.inf, "finite"


def _allowed_list(may: Mapping[str, Any]) -> str:
    """What a list may be, in words."""
    if may["choices"]:
        what = f"one or more of {', '.join(map(str, may['choices']))}"
    else:
        what = "numbers above 0" if may["least"] is None else f"numbers from {in_full(may['least'])} on"
        for bound, words in (("below", "below"), ("most", "at most")):
            what += "" if may[bound] is None else f" and {words} {in_full(may[bound])}"
        what += ", at least one" if may["distinct"] else ""
    return f"a list of {what}{', without repeats' if may['distinct'] else ''}"


def in_full(value: float) -> str:
    """A bound as it is typed: without an exponent."""
    return f"{value:.15g}"


def typed(kind: type[Section], cfg: DictConfig) -> Section:
    """The composed config as a ``kind``, every value of it checked.

    Raises:
        UserError: the key, the value and what is allowed.
    """
    config = cast(Section, OmegaConf.to_object(cfg)) if OmegaConf.get_type(cfg) is kind and "hydra" not in cfg else None
    if config is None or _has_foreign(config):  # merged, which takes longer, and says which key is none
        config = cast(Section, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), plain(cfg))))
    check_section("", config)
    return config


def _has_foreign(section: Any) -> bool:
    """Whether a section, or one in it, was given a key that is none of its."""
    if not is_dataclass(section):
        return False
    own = {key.name for key in fields(section)}
    return any(name not in own or _has_foreign(value) for name, value in vars(section).items())


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A composed config but for Hydra's own part, as plain data."""
    keys = [str(key) for key in cfg if key != "hydra"]
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True))
