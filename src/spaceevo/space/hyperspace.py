"""The hyperspace (paper section 4.4): which block types and width windows each elastic stage may choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.paths import conf_dir
from spaceevo.space.graph import ACTIVATIONS
from spaceevo.space.reading import Reader, read_block, read_head, read_stage, read_stage0, read_stem
from spaceevo.space.spec import BlockChoice, ElasticStage, FixedStage, Head, StageSpec, Stem

#: Block types, or width windows of a stage, that an encoding's digits can name.
CODES = 10


@dataclass(frozen=True)
class Hyperspace:
    """All search spaces that can be written ``<name>-<block type a stage>-<width window a stage>``.

    ``device``: which one it was designed for.
    """

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
    device: str = "host"

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def spaces(self) -> int:
        """How many search spaces the hyperspace holds."""
        count = 1
        for stage in self.stages:
            count *= len(stage.types) * stage.windows
        return count

    def elastic(self, stage: int, block: int, window: int | None = None) -> ElasticStage:
        """Stage ``stage`` (from 0) of block type ``block``, with the widths of ``window`` or all of them."""
        spec = self.stages[stage]
        widths = spec.widths if window is None else spec.window_widths(window)
        name = f"stage{stage + 1}"
        return ElasticStage(name, self.blocks[block], widths, spec.depths, spec.stride, spec.forced_residual, spec.one_width)

    def input_widths(self, stage: int) -> tuple[int, ...]:
        """The widths that the input of stage ``stage`` (from 0) may have."""
        if stage:
            return self.stages[stage - 1].widths
        return self.stem.widths if self.stage0 is None else self.stage0.widths

    def with_task(self, channels: int, classes: int) -> Hyperspace:
        """The same hyperspace for images of ``channels`` and ``classes`` labels."""
        return replace(self, channels=channels, classes=classes)

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
        get = Reader("hyperspace", data)
        get.only(*(field.name for field in fields(Hyperspace)))
        blocks = tuple(read_block(block) for block in get.sections("blocks", "blocks"))
        return Hyperspace(
            name=get.text("name"),
            blocks=blocks,
            stem=read_stem(get.section("stem")),
            stages=tuple(read_stage(stage, len(blocks)) for stage in get.sections("stages")),
            head=read_head(get.section("head")),
            resolutions=get.ints("resolutions"),
            lut_resolutions=get.ints("lut_resolutions"),
            channels=get.whole("channels", 3),
            classes=get.whole("classes", 1000),
            stage0=None if data.get("stage0") is None else read_stage0(get.section("stage0")),
            device=get.text("device", "host"),
        )


def load_hyperspace(name: str, channels: int | None = None, classes: int | None = None) -> Hyperspace:
    """The hyperspace ``name`` of the ``conf`` folder with the block list of the same name, ``name.blocks`` with
    another block list, or one from the path of a YAML file that holds both; for images of ``channels`` in ``classes``
    (None: as the file says, else 3 and 1,000: the checkpoints of a run are of its data's).

    Raises:
        UserError: no such hyperspace, or an impossible value in it.
    """
    if name.endswith((".yaml", ".yml")):
        data = _read(name)
        try:
            return _for(Hyperspace.from_dict(data), channels, classes)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    space, _, blocks = name.partition(".")
    folder = conf_dir()
    for group, choice in (("hyperspace", space), ("blocks", blocks or space)):
        choices = sorted(path.stem for path in (folder / group).glob("*.yaml"))
        if choice not in choices:
            raise bad_choice(group, choice, choices)
    data = {**_compose(folder / "hyperspace", space), **_compose(folder / "blocks", blocks or space)}
    return _for(Hyperspace.from_dict({**data, "name": name}), channels, classes)


def _for(hs: Hyperspace, channels: int | None, classes: int | None) -> Hyperspace:
    return hs.with_task(channels or hs.channels, classes or hs.classes)


def _compose(group: Path, choice: str) -> dict[str, Any]:
    """An option of a config group on top of those of the group that its ``defaults`` name, as Hydra composes them."""
    data = _read(str(group / f"{choice}.yaml"))
    merged: dict[str, Any] = {}
    for base in data.pop("defaults", []):
        merged |= {} if base == "_self_" else _compose(group, base)
    return merged | data


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise UserError(f"{path}{line}: not YAML ({error.problem or error.context})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must hold keys with values, as the files of conf/hyperspace do")
    return data


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
    for key, values in (("resolutions", hs.resolutions), ("lut_resolutions", hs.lut_resolutions)):
        _check_list(f"hyperspace.{key}", values)
    for key, count in (("channels", hs.channels), ("classes", hs.classes)):
        if count < 1:
            raise bad_value(f"hyperspace.{key}", count, "1 or more")
    kernels = [("hyperspace.stem.kernel", hs.stem.kernel)]
    kernels += [(f"{key}.kernels", kernel) for key, block in blocks for kernel in block.kernels]
    for key, kernel in kernels:
        if not 1 <= kernel <= max(hs.resolutions) or kernel % 2 == 0:
            raise bad_value(key, kernel, f"odd and positive, at most {max(hs.resolutions)}, the largest resolution")
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
        rising = list(stage.types) == sorted(set(stage.types)) != []
        if not rising or not 0 <= stage.types[0] <= stage.types[-1] < len(hs.blocks):
            raise bad_value(f"{key}.types", list(stage.types), f"rising indices into the {len(hs.blocks)} block types, from 0")
        names = [hs.blocks[t].type for t in stage.types]
        if len(set(names)) < len(names):
            raise bad_value(f"{key}.types", list(stage.types), f"of different block types, not {', '.join(names)}")
        if stage.windows > CODES:
            raise bad_value(f"{key}.widths", list(stage.widths), f"at most {CODES} windows, one digit of an encoding each")
    if hs.stem.stride not in (1, 2):
        raise bad_value("hyperspace.stem.stride", hs.stem.stride, "1 or 2")
    if hs.head.final_expand:
        _check_list("hyperspace.head.final_expand", hs.head.final_expand)
    if hs.head.feature_mix is not None and hs.head.feature_mix < 1:
        raise bad_value("hyperspace.head.feature_mix", hs.head.feature_mix, "more than 0")
    if hs.stem.depths not in ((1,), (1, 2), (2,)) or (hs.stem.depths != (1,) and not hs.stem.deep):
        raise bad_value("hyperspace.stem.depths", list(hs.stem.depths), "[1], or for a deep stem [1, 2] or [2]")
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
