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
            UserError: a value that cannot be (a window wider than its width list, an even kernel, ...).
        """
        stage0 = data.get("stage0")
        try:
            return Hyperspace(
                name=str(data["name"]),
                blocks=tuple(_block(f"blocks.{i}", b) for i, b in enumerate(data["blocks"])),
                stem=Stem(_ints(data["stem"]["widths"]), data["stem"]["kernel"], data["stem"]["stride"], data["stem"]["act"]),
                stages=tuple(
                    StageSpec(_ints(s["widths"]), int(s["window"]), _ints(s["depths"]), int(s["stride"])) for s in data["stages"]
                ),
                head=Head(**data["head"]),
                resolutions=_ints(data["resolutions"]),
                lut_resolutions=_ints(data["lut_resolutions"]),
                channels=int(data.get("channels", 3)),
                classes=int(data.get("classes", 1000)),
                stage0=None
                if stage0 is None
                else FixedStage(
                    _block("stage0.block", stage0["block"]),
                    _ints(stage0["widths"]),
                    _ints(stage0["depths"]),
                    int(stage0["stride"]),
                    bool(stage0.get("forced_residual", True)),
                ),
            )
        except KeyError as missing:
            raise UserError(f"hyperspace: the key {missing} is missing") from None


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
            return yaml.safe_load(file)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _ints(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _block(key: str, data: Mapping[str, Any]) -> BlockChoice:
    if data["type"] not in BLOCK_TYPES:
        raise bad_choice(f"{key}.type", data["type"], BLOCK_TYPES)
    expands = data.get("expands") or ()
    if data["type"] in NO_EXPAND:
        if expands:
            raise bad_value(f"{key}.expands", list(expands), f"absent: {data['type']} has no expand ratio")
        return BlockChoice(data["type"], _ints(data["kernels"]), (None,), data["act"])
    if not expands:
        raise bad_value(f"{key}.expands", "[]", "a list of expand ratios")
    return BlockChoice(data["type"], _ints(data["kernels"]), tuple(float(e) for e in expands), data["act"])


def _check(hs: Hyperspace) -> None:
    """Every value that cannot be, with its key."""
    fixed = [] if hs.stage0 is None else [("stage0.block", hs.stage0.block)]
    for key, block in [*((f"blocks.{i}", b) for i, b in enumerate(hs.blocks)), *fixed]:
        for kernel in block.kernels or (0,):
            if kernel < 1 or kernel % 2 == 0:
                raise bad_value(f"{key}.kernels", kernel, "odd and positive")
        for expand in block.expands:
            if expand is not None and expand <= 0:
                raise bad_value(f"{key}.expands", expand, "more than 0")
    acts = [("stem.act", hs.stem.act), ("head.act", hs.head.act), *((f"{key}.act", b.act) for key, b in fixed)]
    for key, act in [*acts, *((f"blocks.{i}.act", b.act) for i, b in enumerate(hs.blocks))]:
        if act not in ACTIVATIONS:
            raise bad_choice(key, act, ACTIVATIONS)
    if hs.stem.kernel < 1 or hs.stem.kernel % 2 == 0:
        raise bad_value("stem.kernel", hs.stem.kernel, "odd and positive")
    for i, stage in enumerate(hs.stages, start=1):
        key = f"hyperspace.stages.{i - 1}"
        if not 1 <= stage.window <= len(stage.widths):
            raise bad_value(f"{key}.window", stage.window, f"from 1 to {len(stage.widths)}, the length of the stage's width list")
        if stage.stride not in (1, 2):
            raise bad_value(f"{key}.stride", stage.stride, "1 or 2")
        _check_list(f"{key}.widths", stage.widths)
        _check_list(f"{key}.depths", stage.depths)
    _check_list("hyperspace.resolutions", hs.resolutions)
    _check_list("hyperspace.lut_resolutions", hs.lut_resolutions)
    _check_list("hyperspace.stem.widths", hs.stem.widths)


def _check_list(key: str, values: tuple[int, ...]) -> None:
    if not values or min(values) < 1 or list(values) != sorted(set(values)):
        raise bad_value(key, list(values), "a rising list of positive numbers")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return value
