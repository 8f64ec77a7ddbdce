"""The parts of a hyperspace, as data: block types, stages, stem and head, each with what may be chosen of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockChoice:
    """A block type with the configurations it is elastic over."""

    type: str
    kernels: tuple[int, ...]
    expands: tuple[float | None, ...]
    act: str


@dataclass(frozen=True)
class ElasticStage:
    """A block type ``b`` with the configurations ``c`` its blocks choose from (widths, kernels, expands, depths).

    ``one_width``: all blocks of a sub-stage have the same width, as in hand-designed spaces. ``forced_residual``: a
    block whose input and output differ has a 1x1 convolution as its shortcut (else none).
    """

    name: str
    block: BlockChoice
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    forced_residual: bool = True
    one_width: bool = False

    @property
    def subnets(self) -> int:
        """How many sub-stages the stage holds."""
        a_block = len(self.block.kernels) * len(self.block.expands)
        if self.one_width:
            return len(self.widths) * sum(a_block**depth for depth in self.depths)
        return sum((len(self.widths) * a_block) ** depth for depth in self.depths)


@dataclass(frozen=True)
class StageSpec:
    """One stage of the hyperspace: the full width list, of which a window is chosen, and what is not searched.

    ``types``: the block types to choose from, as indices into the block list. The last two: see ``ElasticStage``.
    """

    widths: tuple[int, ...]
    window: int
    depths: tuple[int, ...]
    stride: int
    types: tuple[int, ...]
    forced_residual: bool = True
    one_width: bool = False

    @property
    def windows(self) -> int:
        """How many width windows there are."""
        return len(self.widths) - self.window + 1

    def window_widths(self, index: int) -> tuple[int, ...]:
        """The widths of the window that begins at the ``index``-th."""
        return self.widths[index : index + self.window]


@dataclass(frozen=True)
class Stem:
    """The first convolution; or a ``deep`` stem (ResNet-D's, of OFA): a 3x3 convolution of the stride to half the width,
    at depth 2 another with a skip, one to the width, and 3x3 max pooling of stride 2."""

    widths: tuple[int, ...]
    kernel: int
    stride: int
    act: str
    depths: tuple[int, ...] = (1,)
    deep: bool = False

    @property
    def reduction(self) -> int:
        """The stride of all of it."""
        return 2 * self.stride if self.deep else self.stride


@dataclass(frozen=True)
class FixedStage:
    """An optional first stage whose block type and widths are not searched (the release's stage 0)."""

    block: BlockChoice
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    forced_residual: bool = True
    one_width: bool = False


@dataclass(frozen=True)
class Head:
    """1x1 conv to one of the widths ``final_expand`` (none: no such conv), average pool, optional 1x1 conv to
    ``feature_mix``, linear classifier."""

    final_expand: tuple[int, ...]
    act: str
    feature_mix: int | None = None
