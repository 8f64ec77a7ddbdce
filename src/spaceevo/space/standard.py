"""Standard networks as op graphs, scaled to the images: what a found model is compared with.

Each is a stem and stages of one block type, of the proportions that its paper gives it at a hundredth of a millisecond's size;
a ladder of width multipliers makes a family of it. Stages keep only as many of their strides of 2, the last ones, as leave a
last feature map of about 4x4 (7x7 from 224 pixels), as is done for CIFAR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from spaceevo.errors import bad_choice
from spaceevo.space.blocks import BLOCK_TYPES, BlockSpec
from spaceevo.space.build import CLASSIFIER
from spaceevo.space.graph import Graph, GraphBuilder

LEAST_MAP, MOST_STRIDES = 4, 5


@dataclass(frozen=True)
class Stage:
    """``depth`` blocks of one type: width, expand ratio (None: the type has none), kernel; ``stride`` of the first."""

    block: str
    width: int
    expand: float | None
    kernel: int
    depth: int
    stride: int


@dataclass(frozen=True)
class Standard:
    """A stem's width, the stages, the head's 1x1 convolution (0: none) and the activation; ``forced``: a convolution as the
    shortcut where shapes differ. ``widths``: the ladder's multipliers. ``kernel``: of the stem, whose stride is 2; ``pooled``:
    with a max pool of 3x3 and stride 2 behind it."""

    stem: int
    stages: tuple[Stage, ...]
    head: int
    act: str
    widths: tuple[float, ...]
    forced: bool = False
    kernel: int = 3
    pooled: bool = False


def _plain(layers: int) -> tuple[Stage, ...]:
    """Plain 3x3 convolutions: four with the stem; a fifth and a sixth double the third's and the second's width."""
    return (
        Stage("conv", 32, None, 3, 2 if layers >= 6 else 1, 1),
        Stage("conv", 48, None, 3, 2 if layers >= 5 else 1, 2),
        Stage("conv", 96, None, 3, 1, 2),
    )


#: By name: the families of the ladder.
STANDARD: dict[str, Standard] = {
    "plain4": Standard(16, _plain(4), 0, "relu", (1.0,)),
    "plain5": Standard(16, _plain(5), 0, "relu", (1.0,)),
    "plain": Standard(16, _plain(6), 0, "relu", (1.0, 1.5, 2.0)),
    "resnet": Standard(
        16,
        (Stage("basic", 16, None, 3, 1, 1), Stage("basic", 32, None, 3, 1, 2), Stage("basic", 64, None, 3, 1, 2)),
        0,
        "relu",
        (1.0, 1.5, 2.0),
        forced=True,
    ),
    "mobilenet_v2": Standard(
        16,
        (
            Stage("mbv2", 16, 1, 3, 1, 1),
            Stage("mbv2", 24, 6, 3, 1, 2),
            Stage("mbv2", 32, 6, 3, 2, 2),
            Stage("mbv2", 64, 6, 3, 1, 2),
        ),
        192,
        "relu6",
        (0.5, 1.0, 1.5),
    ),
    "mobilenet_v3": Standard(
        16,
        (
            Stage("mbv3", 16, 1, 3, 1, 2),
            Stage("mbv2", 24, 4, 3, 2, 2),
            Stage("mbv3", 40, 4, 5, 2, 2),
        ),
        192,
        "hswish",
        (0.5, 1.0, 1.5),
    ),
    "mobilenet_v4": Standard(
        32,
        (
            Stage("fused_mb", 32, 1, 3, 1, 2),
            Stage("fused_mb", 48, 2, 3, 1, 2),
            Stage("mbv2", 64, 3, 5, 2, 2),
        ),
        192,
        "relu",
        (0.5, 1.0),
    ),
    "efficientnet_lite": Standard(
        32,
        (
            Stage("mbv2", 16, 1, 3, 1, 1),
            Stage("mbv2", 24, 6, 3, 1, 2),
            Stage("mbv2", 40, 6, 5, 1, 2),
            Stage("mbv2", 80, 6, 3, 1, 2),
        ),
        192,
        "relu6",
        (0.5, 1.0),
    ),
}


def standard_graph(name: str, width: float, channels: int, classes: int, hw: int) -> Graph:
    """The network ``name`` with its widths times ``width`` (rounded to 8), on ``[B, channels, hw, hw]``.

    Raises:
        UserError: no such network.
    """
    if name not in STANDARD:
        raise bad_choice("baselines", name, STANDARD)
    net = STANDARD[name]

    def scaled(value: int) -> int:
        return max(8, round(value * width / 8) * 8)

    left = min(MOST_STRIDES, math.ceil(math.log2(hw / LEAST_MAP)))
    twos = [i for i, stage in enumerate(net.stages) if stage.stride == 2]
    kept = set(twos[max(0, len(twos) - (left - 1)) :])
    return network_graph(net, scaled, kept, channels, classes, hw)


def network_graph(
    net: Standard, scaled: Callable[[int], int], kept: Collection[int], channels: int, classes: int, hw: int
) -> Graph:
    """``net`` on ``[B, channels, hw, hw]``: its widths as ``scaled`` gives them, and of its stages' strides those of the stages
    that are ``kept``, by index."""
    g = GraphBuilder(channels, hw)
    x = g.conv("stem", g.x, scaled(net.stem), kernel=net.kernel, stride=2, act=net.act)
    if net.pooled:
        x = g.maxpool("stem_pool", x, kernel=3, stride=2)
    for i, stage in enumerate(net.stages):
        for j in range(stage.depth):
            stride = stage.stride if i in kept and j == 0 else 1
            with g.scope(f"stage{i + 1}.{j}"):
                spec = BlockSpec(stage.kernel, scaled(stage.width), stage.expand, stride, net.act, net.forced)
                x = BLOCK_TYPES[stage.block](g, x, spec)
    with g.scope("head"):
        if net.head:
            x = g.conv("final_expand", x, scaled(net.head), act=net.act)
        x = g.mean("pool", x)
    g.conv(CLASSIFIER, x, classes, norm=False)
    return g.graph
