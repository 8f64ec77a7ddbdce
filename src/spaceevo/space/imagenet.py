"""Networks in the form that others trained them in on ImageNet: what files of weights are of."""

from __future__ import annotations

import math

from spaceevo.space.graph import Graph, round8
from spaceevo.space.standard import Stage, Standard, network_graph

REDUCTION = 32  # pixels of a side that their last feature map has one for


def _efficientnet_lite(width: float, depth: float) -> Standard:
    """Stem, first and last stage are not scaled in depth, stem and head not in width."""
    stages = (
        (16, 1, 3, 1, 1), (24, 6, 3, 2, 2), (40, 6, 5, 2, 2), (80, 6, 3, 3, 2), (112, 6, 5, 3, 1), (192, 6, 5, 4, 2),
        (320, 6, 3, 1, 1),
    )  # fmt: skip
    inner = range(1, len(stages) - 1)
    return Standard(
        32,
        tuple(
            Stage("mbv2", round8(out * width), expand, kernel, math.ceil(many * depth) if i in inner else many, stride)
            for i, (out, expand, kernel, many, stride) in enumerate(stages)
        ),
        1280,
        "relu6",
        (1.0,),
    )


def _resnet(block: str, expand: float | None, wider: int, depths: tuple[int, ...]) -> Standard:
    """``wider``: a stage's output to that of a ResNet-18's."""
    stages = [Stage(block, 64 * 2**i * wider, expand, 3, depth, 1 if i == 0 else 2) for i, depth in enumerate(depths)]
    return Standard(64, tuple(stages), 0, "relu", (1.0,), forced=True, kernel=7, pooled=True)


_MOBILENET_V2 = ((16, 1, 1, 1), (24, 6, 2, 2), (32, 6, 3, 2), (64, 6, 4, 2), (96, 6, 3, 1), (160, 6, 3, 2), (320, 6, 1, 1))

#: By name.
IMAGENET: dict[str, Standard] = {
    "efficientnet_lite0": _efficientnet_lite(1.0, 1.0),
    "efficientnet_lite1": _efficientnet_lite(1.0, 1.1),
    "efficientnet_lite2": _efficientnet_lite(1.1, 1.2),
    "efficientnet_lite3": _efficientnet_lite(1.2, 1.4),
    "efficientnet_lite4": _efficientnet_lite(1.4, 1.8),
    "mobilenet_v2": Standard(
        32,
        tuple(Stage("mbv2", out, expand, 3, many, stride) for out, expand, many, stride in _MOBILENET_V2),
        1280,
        "relu6",
        (1.0,),
    ),
    "resnet18": _resnet("basic", None, 1, (2, 2, 2, 2)),
    "resnet34": _resnet("basic", None, 1, (3, 4, 6, 3)),
    "resnet50": _resnet("residual_bottleneck", 0.25, 4, (3, 4, 6, 3)),
}


def imagenet_graph(name: str, classes: int, hw: int) -> Graph:
    """The network ``name`` of ``IMAGENET`` for colour images ``[B, 3, hw, hw]``, with all its strides whatever ``hw`` is."""
    net = IMAGENET[name]
    return network_graph(net, lambda width: width, range(len(net.stages)), 3, classes, hw)
