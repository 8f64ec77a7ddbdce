"""Plain data, as YAML holds it, to the parts of a hyperspace; an error names the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND
from spaceevo.space.spec import BlockChoice, FixedStage, Head, StageSpec, Stem

RULES = ("forced_residual", "one_width")
MOST_EXPAND = 64


class Reader:
    """Reads plain data; an error names the key."""

    def __init__(self, key: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise bad_value(key, data, "keys with values")
        self.key, self.data = key, data

    def value(self, name: str, *default: Any) -> Any:
        """Of a key; without a ``default`` it has to be there."""
        if name not in self.data and not default:
            raise UserError(f"{self.key}.{name}: is missing")
        return self.data.get(name, *default)

    def whole(self, name: str, *default: int) -> int:
        """A whole number."""
        return _whole(f"{self.key}.{name}", self.value(name, *default))

    def text(self, name: str, *default: str) -> str:
        """A word."""
        value = self.value(name, *default)
        if not isinstance(value, str) or not value:
            raise bad_value(f"{self.key}.{name}", value, "a text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise bad_value(f"{self.key}.{name}", value, "true or false")
        return value

    def ints(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return tuple(_whole(f"{self.key}.{name}", v) for v in self.items(name))

    def items(self, name: str) -> Sequence[Any]:
        """A list."""
        values = self.value(name)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise bad_value(f"{self.key}.{name}", values, "a list")
        return values

    def section(self, name: str) -> Reader:
        """What is below a key."""
        return Reader(f"{self.key}.{name}", self.value(name))

    def sections(self, name: str, key: str | None = None) -> list[Reader]:
        """A list of such; ``key``: what errors call it."""
        return [Reader(f"{key or f'{self.key}.{name}'}.{i}", v) for i, v in enumerate(self.items(name))]

    def only(self, *names: str) -> None:
        """Refuses any other key."""
        for name in self.data:
            if name not in names:
                raise UserError(f"{self.key}.{name}: no such key; there are: {', '.join(names)}")


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value(key, value, "a whole number")
    return value


def read_stem(get: Reader) -> Stem:
    """The section ``stem``."""
    get.only("widths", "kernel", "stride", "act", "depths", "deep")
    depths = get.ints("depths") if get.value("depths", None) is not None else (1,)
    deep = get.flag("deep", False)
    return Stem(get.ints("widths"), get.whole("kernel"), get.whole("stride"), get.text("act"), depths, deep)


def read_head(get: Reader) -> Head:
    """The section ``head``."""
    get.only("final_expand", "act", "feature_mix")
    mix = get.value("feature_mix", None)
    return Head(get.ints("final_expand"), get.text("act"), None if mix is None else get.whole("feature_mix"))


def read_stage(get: Reader, blocks: int) -> StageSpec:
    """One of ``stages``; ``blocks``: how many block types there are, all of which it may have unless it names some."""
    get.only("widths", "window", "depths", "stride", "types", *RULES)
    widths = get.ints("widths")
    types = get.ints("types") if get.value("types", None) is not None else tuple(range(blocks))
    return StageSpec(widths, get.whole("window"), get.ints("depths"), get.whole("stride"), types, *_rules(get))


def read_stage0(get: Reader) -> FixedStage:
    """The section ``stage0``."""
    get.only("block", "widths", "depths", "stride", *RULES)
    block = read_block(get.section("block"))
    return FixedStage(block, get.ints("widths"), get.ints("depths"), get.whole("stride"), *_rules(get))


def _rules(get: Reader) -> tuple[bool, bool]:
    return get.flag("forced_residual", True), get.flag("one_width", False)


def read_block(get: Reader) -> BlockChoice:
    """One of ``blocks``."""
    get.only("type", "kernels", "act", "expands")
    kind, kernels, act = get.text("type"), get.ints("kernels"), get.text("act")
    if kind not in BLOCK_TYPES:
        raise bad_choice(f"{get.key}.type", kind, BLOCK_TYPES)
    given = get.items("expands") if get.value("expands", None) is not None else ()
    expands = [e for e in given if e is not None]
    if kind in NO_EXPAND:
        if expands:
            raise bad_value(f"{get.key}.expands", expands, f"absent: {kind} has no expand ratio")
        return BlockChoice(kind, kernels, (None,), act)
    numbers = all(isinstance(e, (int, float)) and not isinstance(e, bool) and 0 < e <= MOST_EXPAND for e in expands)
    if not expands or not numbers or len(set(expands)) < len(expands):
        raise bad_value(
            f"{get.key}.expands", expands, f"a list of expand ratios above 0, at most {MOST_EXPAND}, without repeats"
        )
    return BlockChoice(kind, kernels, tuple(float(e) for e in expands), act)
