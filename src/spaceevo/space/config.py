"""A hyperspace and its block list as a config has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from omegaconf import MISSING

from spaceevo.errors import UserError
from spaceevo.settings import CHANNELS, PIXELS, setting
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS
from spaceevo.space.hyperspace import Hyperspace

#: More of them than any network has.
DEPTH = 1000
ACT = "its activation: " + ", ".join(ACTIVATIONS)


@dataclass
class BlockChoiceConfig:
    """A block type with what it is elastic over."""

    type: str = setting("its name in the paper: " + ", ".join(BLOCK_TYPES))
    kernels: list[int] = setting("pixels of a side of its kernels, odd, rising", most=255)
    act: str = setting(ACT)
    expands: list[float] | None = setting("its expand ratios; null where it has none", most=CHANNELS, default=None)


@dataclass
class StemConfig:
    """The first convolution."""

    widths: list[int] = setting("channels, rising", most=CHANNELS)
    kernel: int = setting("pixels of a side, odd", most=255)
    stride: int = setting("1 or 2", most=2)
    act: str = setting(ACT)
    depths: list[int] = setting("convolutions: [1], or for a deep stem [1, 2] or [2]", most=DEPTH, default=[1])
    deep: bool = setting(
        "ResNet-D's stem, of OFA: convolutions to half the width before the last, and a pool of stride 2 behind it",
        default=False,
    )


@dataclass
class StageSpecConfig:
    """One elastic stage of the hyperspace."""

    widths: list[int] = setting("channels of a block, rising", most=CHANNELS)
    window: int = setting("how many neighbouring widths a search space has of them", most=DEPTH)
    depths: list[int] = setting("numbers of blocks, rising", most=DEPTH)
    stride: int = setting("of the first block, 1 or 2", most=2)
    types: list[int] | None = setting("indices of the block types it may have; null: all", least=0, most=DEPTH, default=None)
    forced_residual: bool = setting(
        "a block whose input and output differ has a 1x1 convolution as its shortcut, else none", default=True
    )
    one_width: bool = setting("all blocks have the same width", default=False)


@dataclass
class FixedStageConfig:
    """A first stage whose block type and widths are not searched."""

    block: BlockChoiceConfig = setting("its block type", default=MISSING)
    widths: list[int] = setting("channels of a block, rising", most=CHANNELS)
    depths: list[int] = setting("numbers of blocks, rising", most=DEPTH)
    stride: int = setting("of the first block, 1 or 2", most=2)
    forced_residual: bool = setting(
        "a block whose input and output differ has a 1x1 convolution as its shortcut, else none", default=True
    )
    one_width: bool = setting("all blocks have the same width", default=False)


@dataclass
class HeadConfig:
    """What follows the last stage."""

    final_expand: list[int] = setting("channels of a 1x1 convolution before the mean over the pixels; []: none", most=CHANNELS)
    act: str = setting(ACT)
    feature_mix: int | None = setting("features of a layer after that mean; null: none", most=CHANNELS, default=None)


@dataclass
class HyperspaceConfig:
    """The search spaces to choose among: stages, widths, depths, resolutions."""

    name: str = setting("begins the encodings of its search spaces")
    stem: StemConfig = setting("the first convolution")
    stages: list[StageSpecConfig] = setting("the elastic stages, in order")
    head: HeadConfig = setting("what follows the last stage")
    resolutions: list[int] = setting(
        "pixels of a side that images may be resized to, rising; []: 3/4, 7/8 and all of data.image_size, of multiples of 4",
        most=PIXELS,
    )
    lut_resolutions: list[int] = setting(
        "those that the accuracy table is made at, pixels of a side, rising; []: the smallest and the largest of resolutions",
        most=PIXELS,
    )
    stage0: FixedStageConfig | None = setting("a first stage that is not searched; null: none", default=None)
    device: str = setting("which it was designed for", default="host")


@dataclass
class BlocksConfig:
    """The block types a stage may be made of (default: those named like the hyperspace)."""

    name: str = setting("names the list")
    blocks: list[BlockChoiceConfig] = setting("the block types; their places, from 0, are the digits of encodings")


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
