"""Networks of the literature for ImageNet at 224 x 224, as their papers print them: those that the paper's figure 1 measures,
and those that others' files of weights are of (:mod:`spaceevo.training.pretrained`).

(:mod:`spaceevo.space.standard` has the same families scaled down to small images.) One thing is not as printed: every gate of
squeeze-and-excitation is a hard sigmoid after a ReLU, which EfficientNet-B0 has as a sigmoid after a swish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from spaceevo.errors import bad_choice
from spaceevo.space.blocks import BLOCK_TYPES, Block, BlockSpec
from spaceevo.space.build import CLASSIFIER
from spaceevo.space.graph import Graph, GraphBuilder, Tensor, round8

RESOLUTION = 224  # that their accuracies hold for
REDUCTION = 32  # pixels of a side that their last feature map has one for
BOTTLENECKS = ("residual_bottleneck",)  # whose middle is given relative to their output
RESNETS = ("basic", *BOTTLENECKS)  # a convolution is their shortcut where shapes differ


@dataclass(frozen=True)
class Row:
    """A block as a paper's table has it: ``hidden`` channels in its middle (0: it has none), ``width`` channels out."""

    block: str
    kernel: int
    hidden: int
    width: int
    stride: int
    act: str


@dataclass(frozen=True)
class Network:
    """``stem``: width and kernel of the first convolution, of stride 2; ``pool``: max pooling after it. ``head``: channels of
    the last 1x1 convolution before the mean (0: none), and ``mix`` of one after it, with a BatchNorm or (``mix_norm=False``) a
    bias. ``act``: of stem and head."""

    stem: tuple[int, int]
    rows: tuple[Row, ...]
    head: int
    act: str
    mix: int = 0
    mix_norm: bool = False
    pool: bool = False


def _universal(g: GraphBuilder, x: Tensor, b: BlockSpec, first: bool = False, middle: bool = True, squeeze: int = 0) -> Tensor:
    """An inverted residual that :data:`~spaceevo.space.blocks.BLOCK_TYPES` does not have: with a depthwise convolution before
    it (``first``), without one in its ``middle`` (MobileNetV4's universal block), or with squeeze-and-excitation on a part of
    its input's channels, one in ``squeeze`` (EfficientNet; 0: none)."""
    assert b.expand is not None
    h = g.depthwise("first", x, b.kernel, stride=1 if middle else b.stride) if first else x
    h = h if b.expand == 1 else g.conv("expand", h, round8(x.channels * b.expand), act=b.act)
    h = g.depthwise("depthwise", h, b.kernel, stride=b.stride, act=b.act) if middle else h
    h = g.squeeze_excite("se", h, x.channels // squeeze) if squeeze else h
    return g.residual("shortcut", x, g.conv("project", h, b.width), b.stride, forced=b.forced)


BLOCKS: dict[str, Block] = {
    **BLOCK_TYPES,
    "extra_dw": partial(_universal, first=True),
    "convnext": partial(_universal, first=True, middle=False),
    "mbv3_narrow": partial(_universal, squeeze=4),
}


def _stages(stem: int, block: str, act: str, stages: Iterable[tuple[int, int, int, int, int]]) -> Iterator[Row]:
    """Rows of ``(expand ratio, kernel, width, depth, stride)``, as MobileNetV2's and EfficientNet's papers print them."""
    cin = stem
    for expand, kernel, width, depth, stride in stages:
        for i in range(depth):
            yield Row(block, kernel, expand * cin, width, stride if i == 0 else 1, act)
            cin = width


def _mobilenet_v3(rows: Iterable[tuple[int, int, int, str, str, int]]) -> Iterator[Row]:
    """Rows of ``(kernel, hidden, width, SE, activation, stride)``, as MobileNetV3's paper prints them."""
    acts = {"RE": "relu", "HS": "hswish"}
    for kernel, hidden, width, se, act, stride in rows:
        yield Row("mbv3" if se else "mbv2", kernel, hidden, width, stride, acts[act])


def _mobilenet_v4(rows: Iterable[tuple[str, int, int, int, int]]) -> Iterator[Row]:
    """Rows of ``(block, kernel, hidden, width, stride)``."""
    for block, kernel, hidden, width, stride in rows:
        yield Row(block, kernel, hidden, width, stride, "relu")


V2 = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 3, 32, 3, 2), (6, 3, 64, 4, 2), (6, 3, 96, 3, 1), (6, 3, 160, 3, 2),
    (6, 3, 320, 1, 1),
)  # fmt: skip
EFFICIENTNET = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)  # fmt: skip
V3_SMALL = (
    (3, 16, 16, "SE", "RE", 2), (3, 72, 24, "", "RE", 2), (3, 88, 24, "", "RE", 1), (5, 96, 40, "SE", "HS", 2),
    (5, 240, 40, "SE", "HS", 1), (5, 240, 40, "SE", "HS", 1), (5, 120, 48, "SE", "HS", 1), (5, 144, 48, "SE", "HS", 1),
    (5, 288, 96, "SE", "HS", 2), (5, 576, 96, "SE", "HS", 1), (5, 576, 96, "SE", "HS", 1),
)  # fmt: skip
V3_LARGE = (
    (3, 16, 16, "", "RE", 1), (3, 64, 24, "", "RE", 2), (3, 72, 24, "", "RE", 1), (5, 72, 40, "SE", "RE", 2),
    (5, 120, 40, "SE", "RE", 1), (5, 120, 40, "SE", "RE", 1), (3, 240, 80, "", "HS", 2), (3, 200, 80, "", "HS", 1),
    (3, 184, 80, "", "HS", 1), (3, 184, 80, "", "HS", 1), (3, 480, 112, "SE", "HS", 1), (3, 672, 112, "SE", "HS", 1),
    (5, 672, 160, "SE", "HS", 2), (5, 960, 160, "SE", "HS", 1), (5, 960, 160, "SE", "HS", 1),
)  # fmt: skip
V4_SMALL = (
    ("conv", 3, 0, 32, 2), ("conv", 1, 0, 32, 1), ("conv", 3, 0, 96, 2), ("conv", 1, 0, 64, 1), ("extra_dw", 5, 192, 96, 2),
    *(("mbv2", 3, 192, 96, 1),) * 4, ("convnext", 3, 384, 96, 1), ("extra_dw", 3, 576, 128, 2), ("extra_dw", 5, 512, 128, 1),
    ("mbv2", 5, 512, 128, 1), ("mbv2", 5, 384, 128, 1), *(("mbv2", 3, 512, 128, 1),) * 2,
)  # fmt: skip


def _lite(width: float, depth: float) -> Network:
    """EfficientNet-Lite: first and last stage are not scaled in depth, stem and head not in width."""
    inner = EFFICIENTNET[1:-1]
    stages = [
        (e, k, round8(w * width), math.ceil(d * depth) if row in inner else d, s)
        for row in EFFICIENTNET
        for e, k, w, d, s in [row]
    ]
    return Network((32, 3), tuple(_stages(32, "mbv2", "relu6", stages)), 1280, "relu6")


def _resnet(block: str, wider: int, depths: Sequence[int]) -> Network:
    """``wider``: a stage's output to what is in a block's middle."""
    rows = (
        Row(block, 3, 64 * 2**i if wider > 1 else 0, 64 * 2**i * wider, 2 if i > 0 and j == 0 else 1, "relu")
        for i, depth in enumerate(depths)
        for j in range(depth)
    )
    return Network((64, 7), tuple(rows), 0, "relu", pool=True)


#: By name. Each is one by its paper and, but for MobileNetV4 and Lite, has as many parameters as torchvision's.
IMAGENET: dict[str, Network] = {
    "mobilenet_v2": Network((32, 3), tuple(_stages(32, "mbv2", "relu6", V2)), 1280, "relu6"),
    "mobilenet_v3_small": Network((16, 3), tuple(_mobilenet_v3(V3_SMALL)), 576, "hswish", mix=1024),
    "mobilenet_v3_large": Network((16, 3), tuple(_mobilenet_v3(V3_LARGE)), 960, "hswish", mix=1280),
    "mobilenet_v4_small": Network((32, 3), tuple(_mobilenet_v4(V4_SMALL)), 960, "relu", mix=1280, mix_norm=True),
    "efficientnet_b0": Network((32, 3), tuple(_stages(32, "mbv3_narrow", "swish", EFFICIENTNET)), 1280, "swish"),
    "efficientnet_lite0": _lite(1.0, 1.0),
    "efficientnet_lite1": _lite(1.0, 1.1),
    "efficientnet_lite2": _lite(1.1, 1.2),
    "efficientnet_lite3": _lite(1.2, 1.4),
    "efficientnet_lite4": _lite(1.4, 1.8),
    "resnet18": _resnet("basic", 1, (2, 2, 2, 2)),
    "resnet34": _resnet("basic", 1, (3, 4, 6, 3)),
    "resnet50": _resnet("residual_bottleneck", 4, (3, 4, 6, 3)),
}


def imagenet_graph(name: str, hw: int = RESOLUTION, classes: int = 1000) -> Graph:
    """The network ``name`` on ``[B, 3, hw, hw]``, with all its strides whatever ``hw`` is; a stage begins where one is.

    Raises:
        UserError: no such network.
    """
    if name not in IMAGENET:
        raise bad_choice("network", name, IMAGENET)
    net = IMAGENET[name]
    g = GraphBuilder(3, hw)
    width, kernel = net.stem
    x = g.conv("stem", g.x, width, kernel=kernel, stride=2, act=net.act)
    x = g.maxpool("pool", x, kernel=3, stride=2) if net.pool else x
    stage, block = 1, -1
    for i, row in enumerate(net.rows):
        stage, block = (stage + 1, 0) if row.stride == 2 and i else (stage, block + 1)
        relative_to = row.width if row.block in BOTTLENECKS else x.channels
        expand = row.hidden / relative_to if row.hidden else None
        spec = BlockSpec(row.kernel, row.width, expand, row.stride, row.act, forced=row.block in RESNETS)
        with g.scope(f"stage{stage}.{block}"):
            x = BLOCKS[row.block](g, x, spec)
    with g.scope("head"):
        x = g.conv("final_expand", x, net.head, act=net.act) if net.head else x
        x = g.mean("pool", x)
        x = g.conv("feature_mix", x, net.mix, act=net.act, norm=net.mix_norm) if net.mix else x
    g.conv(CLASSIFIER, x, classes, norm=False)
    return g.graph
