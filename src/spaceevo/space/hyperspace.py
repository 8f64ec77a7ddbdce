"""The hyperspace (paper section 4.4): which block types and width windows each elastic stage may choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import yaml

from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.paths import conf_dir
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND
from spaceevo.space.graph import ACTIVATIONS

#: Block types, or width windows of a stage, that an encoding's digits can name.
CODES = 10


@dataclass(frozen=True)
class BlockChoice:
    """A block type with the configurations it is elastic over."""

    type: str
    kernels: tuple[int, ...]
    expands: tuple[float | None, ...]
    act: str


@dataclass(frozen=True)
class StageSpec:
    """One stage of the hyperspace: the full width list, of which a window is chosen, and what is not searched."""

    widths: tuple[int, ...]
    window: int
    depths: tuple[int, ...]
    stride: int

    @property
    def windows(self) -> int:
        """How many width windows there are."""
        return len(self.widths) - self.window + 1

    def window_widths(self, index: int) -> tuple[int, ...]:
        return self.widths[index : index + self.window]


@dataclass(frozen=True)
class Stem:
    """The first convolution."""

    widths: tuple[int, ...]
    kernel: int
    stride: int
    act: str


@dataclass(frozen=True)
class FixedStage:
    """An optional first stage whose block type and widths are not searched (the release's stage 0)."""

    block: BlockChoice
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    forced_residual: bool = True


@dataclass(frozen=True)
class Head:
    """1x1 conv to ``final_expand``, average pool, optional 1x1 conv to ``feature_mix``, linear classifier."""

    final_expand: int
    act: str
    feature_mix: int | None = None


@dataclass(frozen=True)
class Hyperspace:
    """All search spaces that can be written ``<name>-<block type a stage>-<width window a stage>``."""

    name: str
    blocks: tuple[BlockChoice, ...]
    stem: Stem
    stages: tuple[StageSpec, ...]
    head: Head
    resolutions: tuple[int, ...]
    lut_resolutions: tuple[int, ...]
    channels: int = 3
    classes: int = 1000
    stage0: FixedStage | None = None

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def spaces(self) -> int:
        """How many search spaces the hyperspace holds."""
        count = 1
        for stage in self.stages:
            count *= len(self.blocks) * stage.windows
        return count

    def with_task(self, channels: int, classes: int) -> Hyperspace:
        """The same hyperspace for images of ``channels`` and ``classes`` labels."""
        return Hyperspace(**{**self.__dict__, "channels": channels, "classes": classes})

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``from_dict`` reads back."""
        fields = {key: value for key, value in asdict(self).items() if key != "spaces"}
        return yaml.safe_load(yaml.safe_dump(_plain(fields)))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Hyperspace:
        """A hyperspace from the plain data of ``conf/hyperspace`` with the block list of ``conf/blocks``.

        Raises:
            UserError: a key that is missing, or a value that cannot be (a window wider than its width list, an even
                kernel, ...).
        """
        get = _Reader("hyperspace", data)
        return Hyperspace(
            name=str(get.value("name")),
            blocks=tuple(_block(block) for block in get.sections("blocks", "blocks")),
            stem=_stem(get.section("stem")),
            stages=tuple(
                StageSpec(stage.ints("widths"), stage.whole("window"), stage.ints("depths"), stage.whole("stride"))
                for stage in get.sections("stages")
            ),
            head=_head(get.section("head")),
            resolutions=get.ints("resolutions"),
            lut_resolutions=get.ints("lut_resolutions"),
            channels=get.whole("channels", 3),
            classes=get.whole("classes", 1000),
            stage0=None if data.get("stage0") is None else _stage0(get.section("stage0")),
        )


def load_hyperspace(name: str) -> Hyperspace:
    """The hyperspace ``name`` of the ``conf`` folder with the block list of the same name, ``name.blocks`` with
    another block list, or one from the path of a YAML file that holds both.

    Raises:
        UserError: no such hyperspace, or an impossible value in it.
    """
    if name.endswith((".yaml", ".yml")):
        return Hyperspace.from_dict(_read(name))
    space, _, blocks = name.partition(".")
    folder = conf_dir()
    for group, choice in (("hyperspace", space), ("blocks", blocks or space)):
        choices = sorted(path.stem for path in (folder / group).glob("*.yaml"))
        if choice not in choices:
            raise bad_choice(group, choice, choices)
    data = {**_read(str(folder / "hyperspace" / f"{space}.yaml")), **_read(str(folder / "blocks" / f"{blocks or space}.yaml"))}
    return Hyperspace.from_dict({**data, "name": name})


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must hold keys with values, as the files of conf/hyperspace do")
    return data


class _Reader:
    """Reads plain data; an error names the key."""

    def __init__(self, key: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise bad_value(key, data, "keys with values")
        self.key, self.data = key, data

    def value(self, name: str, *default: Any) -> Any:
        if name not in self.data and not default:
            raise UserError(f"{self.key}.{name}: is missing")
        return self.data.get(name, *default)

    def whole(self, name: str, *default: int) -> int:
        return _whole(f"{self.key}.{name}", self.value(name, *default))

    def ints(self, name: str) -> tuple[int, ...]:
        return tuple(_whole(f"{self.key}.{name}", v) for v in self.items(name))

    def items(self, name: str) -> Sequence[Any]:
        values = self.value(name)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise bad_value(f"{self.key}.{name}", values, "a list")
        return values

    def section(self, name: str) -> _Reader:
        return _Reader(f"{self.key}.{name}", self.value(name))

    def sections(self, name: str, key: str | None = None) -> list[_Reader]:
        return [_Reader(f"{key or f'{self.key}.{name}'}.{i}", v) for i, v in enumerate(self.items(name))]

    def only(self, *names: str) -> None:
        for name in self.data:
            if name not in names:
                raise bad_choice(f"{self.key}.{name}", self.data[name], names)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value(key, value, "a whole number")
    return value


def _stem(get: _Reader) -> Stem:
    return Stem(get.ints("widths"), get.whole("kernel"), get.whole("stride"), str(get.value("act")))


def _head(get: _Reader) -> Head:
    get.only("final_expand", "act", "feature_mix")
    mix = get.value("feature_mix", None)
    return Head(get.whole("final_expand"), str(get.value("act")), None if mix is None else get.whole("feature_mix"))


def _stage0(get: _Reader) -> FixedStage:
    forced = bool(get.value("forced_residual", True))
    return FixedStage(_block(get.section("block")), get.ints("widths"), get.ints("depths"), get.whole("stride"), forced)


def _block(get: _Reader) -> BlockChoice:
    kind, kernels, act = get.value("type"), get.ints("kernels"), str(get.value("act"))
    if kind not in BLOCK_TYPES:
        raise bad_choice(f"{get.key}.type", kind, BLOCK_TYPES)
    expands = [e for e in get.value("expands", None) or () if e is not None]
    if kind in NO_EXPAND:
        if expands:
            raise bad_value(f"{get.key}.expands", expands, f"absent: {kind} has no expand ratio")
        return BlockChoice(kind, kernels, (None,), act)
    if not expands or not all(isinstance(e, (int, float)) and e > 0 for e in expands):
        raise bad_value(f"{get.key}.expands", expands, "a list of expand ratios above 0")
    return BlockChoice(kind, kernels, tuple(float(e) for e in expands), act)


def _check(hs: Hyperspace) -> None:
    """Every value that cannot be, with its key."""
    blocks = [(f"blocks.{i}", block) for i, block in enumerate(hs.blocks)]
    if hs.stage0 is not None:
        blocks.append(("hyperspace.stage0.block", hs.stage0.block))
        _check_stage("hyperspace.stage0", hs.stage0)
    if not 1 <= len(hs.blocks) <= CODES:
        raise bad_value("blocks", len(hs.blocks), f"1 to {CODES} block types, one digit of an encoding each")
    acts = [("hyperspace.stem.act", hs.stem.act), ("hyperspace.head.act", hs.head.act)]
    for key, act in [*acts, *((f"{key}.act", block.act) for key, block in blocks)]:
        if act not in ACTIVATIONS:
            raise bad_choice(key, act, ACTIVATIONS)
    kernels = [("hyperspace.stem.kernel", hs.stem.kernel)]
    kernels += [(f"{key}.kernels", kernel) for key, block in blocks for kernel in block.kernels]
    for key, kernel in kernels:
        if kernel < 1 or kernel % 2 == 0:
            raise bad_value(key, kernel, "odd and positive")
    for key, block in blocks:
        _check_list(f"{key}.kernels", block.kernels)
    if not hs.stages:
        raise bad_value("hyperspace.stages", "[]", "at least one stage")
    for i, stage in enumerate(hs.stages):
        key = f"hyperspace.stages.{i}"
        _check_stage(key, stage)
        if not 1 <= stage.window <= len(stage.widths):
            allowed = f"from 1 to {len(stage.widths)}, the length of the stage's width list"
            raise bad_value(f"{key}.window", stage.window, allowed)
        if stage.windows > CODES:
            raise bad_value(f"{key}.widths", list(stage.widths), f"at most {CODES} windows, one digit of an encoding each")
    if hs.stem.stride not in (1, 2):
        raise bad_value("hyperspace.stem.stride", hs.stem.stride, "1 or 2")
    for key, count in (("final_expand", hs.head.final_expand), ("feature_mix", hs.head.feature_mix)):
        if count is not None and count < 1:
            raise bad_value(f"hyperspace.head.{key}", count, "more than 0")
    for key, values in (("resolutions", hs.resolutions), ("lut_resolutions", hs.lut_resolutions)):
        _check_list(f"hyperspace.{key}", values)
    _check_list("hyperspace.stem.widths", hs.stem.widths)


def _check_stage(key: str, stage: StageSpec | FixedStage) -> None:
    _check_list(f"{key}.widths", stage.widths)
    _check_list(f"{key}.depths", stage.depths)
    if stage.stride not in (1, 2):
        raise bad_value(f"{key}.stride", stage.stride, "1 or 2")


def _check_list(key: str, values: tuple[int, ...]) -> None:
    if not values or min(values) < 1 or list(values) != sorted(set(values)):
        raise bad_value(key, list(values), "a rising list of positive numbers")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return value
