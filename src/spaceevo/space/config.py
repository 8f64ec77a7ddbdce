"""A hyperspace and its block list as a config has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from omegaconf import MISSING

from spaceevo.errors import UserError
from spaceevo.space.hyperspace import Hyperspace


@dataclass
class BlockChoiceConfig:
    """A block type with what it is elastic over."""

    type: str = MISSING
    kernels: list[int] = MISSING
    act: str = MISSING
    expands: list[float] | None = None


@dataclass
class StemConfig:
    """The first convolution."""

    widths: list[int] = MISSING
    kernel: int = MISSING
    stride: int = MISSING
    act: str = MISSING
    depths: list[int] = field(default_factory=lambda: [1])
    deep: bool = False


@dataclass
class StageSpecConfig:
    """One elastic stage of the hyperspace; ``types``: indices of the block types it may have, null for all."""

    widths: list[int] = MISSING
    window: int = MISSING
    depths: list[int] = MISSING
    stride: int = MISSING
    types: list[int] | None = None
    forced_residual: bool = True
    one_width: bool = False


@dataclass
class FixedStageConfig:
    """A first stage whose block type and widths are not searched."""

    block: BlockChoiceConfig = MISSING
    widths: list[int] = MISSING
    depths: list[int] = MISSING
    stride: int = MISSING
    forced_residual: bool = True
    one_width: bool = False


@dataclass
class HeadConfig:
    """What follows the last stage."""

    final_expand: list[int] = MISSING
    act: str = MISSING
    feature_mix: int | None = None


@dataclass
class HyperspaceConfig:
    """The search spaces to choose among."""

    name: str = MISSING
    stem: StemConfig = MISSING
    stages: list[StageSpecConfig] = MISSING
    head: HeadConfig = MISSING
    resolutions: list[int] = MISSING
    lut_resolutions: list[int] = MISSING
    stage0: FixedStageConfig | None = None
    device: str = "host"


@dataclass
class BlocksConfig:
    """The block types a stage may be made of."""

    name: str = MISSING
    blocks: list[BlockChoiceConfig] = MISSING


def hyperspace_of(chosen: HyperspaceConfig, blocks: BlocksConfig, channels: int, classes: int) -> Hyperspace:
    """The hyperspace with its block list, for images of ``channels`` in ``classes``; ``<hyperspace>.<blocks>`` where the block
    list is not the hyperspace's own.

    Raises:
        UserError: an impossible value, with its key.
    """
    name = chosen.name if blocks.name == chosen.name else f"{chosen.name}.{blocks.name}"
    try:
        return Hyperspace.from_dict({**asdict(chosen), "name": name, "blocks": asdict(blocks)["blocks"]}).with_task(
            channels, classes
        )
    except UserError as error:
        text = str(error)  # it names its own fields; a user types them below the groups
        raise UserError(f"blocks.{text}" if text.startswith("blocks.") else text) from None
