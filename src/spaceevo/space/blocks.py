"""The block types, each written once (paper section 4.4).

A block type is a function that emits ops into a graph. Everything else (the elastic module, extraction,
MMACs, parameters, latency features, exporters) is derived from those ops. To add a type: write the function
here and name it in a ``conf/blocks`` file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spaceevo.space.graph import GraphBuilder, Tensor, round8


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What a block function may ask of its block."""

    kernel: int
    width: int
    expand: float | None
    stride: int
    act: str
    forced: bool


Block = Callable[[GraphBuilder, Tensor, BlockSpec], Tensor]
BLOCK_TYPES: dict[str, Block] = {}
#: Block types without an expand ratio.
NO_EXPAND = {"conv", "basic", "mbv1", "mbv1_dual"}


def block_type(name: str) -> Callable[[Block], Block]:
    """Registers the function that emits a block of type ``name`` (``BLOCK_TYPES``)."""

    def register(emit: Block) -> Block:
        BLOCK_TYPES[name] = emit
        return emit

    return register


def _ratio(b: BlockSpec) -> float:
    assert b.expand is not None
    return b.expand


@block_type("conv")
def conv(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """One full convolution: the fewest ops a block can have."""
    return g.conv("conv", x, b.width, kernel=b.kernel, stride=b.stride, act=b.act)


@block_type("basic")
def basic(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """ResNet's basic block: two full convolutions with a shortcut."""
    h = g.conv("conv1", x, b.width, kernel=b.kernel, stride=b.stride, act=b.act)
    h = g.conv("conv2", h, b.width, kernel=b.kernel)
    return g.residual("shortcut", x, h, b.stride, act=b.act, forced=b.forced)


@block_type("mbv1")
def mbv1(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """MobileNetV1's depthwise separable convolution."""
    h = g.depthwise("depthwise", x, b.kernel, stride=b.stride, act=b.act)
    h = g.conv("pointwise", h, b.width, act=b.act)
    return g.residual("shortcut", x, h, b.stride, forced=b.forced)


@block_type("mbv1_dual")
def mbv1_dual(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """Two of MobileNetV1's separable convolutions with one shortcut around both."""
    h = g.depthwise("depthwise1", x, b.kernel, stride=b.stride, act=b.act)
    h = g.conv("pointwise1", h, b.width, act=b.act)
    h = g.depthwise("depthwise2", h, b.kernel, act=b.act)
    h = g.conv("pointwise2", h, b.width, act=b.act)
    return g.residual("shortcut", x, h, b.stride, forced=b.forced)


def _mb(g: GraphBuilder, x: Tensor, b: BlockSpec, se: bool, stacked: bool = False) -> Tensor:
    hidden = round8(x.channels * _ratio(b))
    skipped = b.expand == 1 and not g.superset  # smaller ratios of the same block may need it
    h = x if skipped else g.conv("expand", x, hidden, act=b.act)
    if stacked:
        h = g.depthwise_stack("depthwise", h, b.kernel, stride=b.stride, act=b.act)
    else:
        h = g.depthwise("depthwise", h, b.kernel, stride=b.stride, act=b.act)
    if se:
        h = g.squeeze_excite("se", h, mid=round8(hidden // 4))
    h = g.conv("project", h, b.width)
    return g.residual("shortcut", x, h, b.stride, forced=b.forced)


@block_type("mbv2")
def mbv2(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """MobileNetV2's inverted residual; at an expand ratio of 1 it has no expanding convolution."""
    return _mb(g, x, b, se=False)


@block_type("mbv3")
def mbv3(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """MobileNetV3's inverted residual: MBv2 with squeeze-and-excitation on the hidden channels."""
    return _mb(g, x, b, se=True)


@block_type("mbv2_k3")
def mbv2_k3(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """MBv2 whose 5x5 or 7x7 depthwise convolution is a stack of two or three 3x3 ones."""
    return _mb(g, x, b, se=False, stacked=True)


@block_type("mbv3_k3")
def mbv3_k3(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """MBv3 whose 5x5 or 7x7 depthwise convolution is a stack of two or three 3x3 ones."""
    return _mb(g, x, b, se=True, stacked=True)


def _residual_bottleneck(g: GraphBuilder, x: Tensor, b: BlockSpec, se: bool) -> Tensor:
    hidden = round8(b.width * _ratio(b))
    h = g.conv("reduce", x, hidden, act=b.act)
    h = g.conv("conv", h, hidden, kernel=b.kernel, stride=b.stride, act=b.act)
    if se:
        h = g.squeeze_excite("se", h, mid=round8(x.channels // 4))
    h = g.conv("project", h, b.width)
    return g.residual("shortcut", x, h, b.stride, act=b.act, forced=b.forced)


@block_type("residual_bottleneck")
def residual_bottleneck(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """ResNet's bottleneck; the expand ratio is relative to the output width."""
    return _residual_bottleneck(g, x, b, se=False)


@block_type("residual_bottleneck_se")
def residual_bottleneck_se(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """ResNet's bottleneck with squeeze-and-excitation after its k x k convolution."""
    return _residual_bottleneck(g, x, b, se=True)


def _fused_mb(g: GraphBuilder, x: Tensor, b: BlockSpec, se: bool) -> Tensor:
    hidden = round8(x.channels * _ratio(b))
    h = g.conv("expand", x, hidden, kernel=b.kernel, stride=b.stride, act=b.act)
    if se:
        h = g.squeeze_excite("se", h, mid=round8(x.channels // 4))
    h = g.conv("project", h, b.width)
    return g.residual("shortcut", x, h, b.stride, forced=b.forced)


@block_type("fused_mb")
def fused_mb(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """EfficientNetV2's fused inverted residual: one k x k convolution expands."""
    return _fused_mb(g, x, b, se=False)


@block_type("fused_mb_se")
def fused_mb_se(g: GraphBuilder, x: Tensor, b: BlockSpec) -> Tensor:
    """FusedMB with squeeze-and-excitation on the hidden channels."""
    return _fused_mb(g, x, b, se=True)
