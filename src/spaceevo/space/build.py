"""The parts of an op graph: stem, stages and head. ``subnet.subnet_graph`` joins them."""

from __future__ import annotations

from spaceevo.space.blocks import BLOCK_TYPES, BlockSpec
from spaceevo.space.graph import Graph, GraphBuilder, Tensor, round8
from spaceevo.space.hyperspace import Hyperspace
from spaceevo.space.spec import ElasticStage, Stem
from spaceevo.space.stage import Stage

CLASSIFIER = "classifier"


def add_stage(g: GraphBuilder, x: Tensor, stage: ElasticStage, blocks: Stage) -> Tensor:
    """Append a sub-stage; its first block has the stage's stride. Ops are named ``<stage>.<block>.<op>``."""
    emit = BLOCK_TYPES[stage.block.type]
    for i, b in enumerate(blocks):
        spec = BlockSpec(b.kernel, b.width, b.expand, stage.stride if i == 0 else 1, stage.block.act, stage.forced_residual)
        with g.scope(f"{stage.name}.{i}"):
            x = emit(g, x, spec)
    return x


def add_stem(g: GraphBuilder, x: Tensor, stem: Stem, width: int, depth: int) -> Tensor:
    """Append the stem."""
    if not stem.deep:
        return g.conv("stem", x, width, kernel=stem.kernel, stride=stem.stride, act=stem.act)
    with g.scope("stem"):
        half = round8(width // 2)
        x = g.conv("conv1", x, half, kernel=stem.kernel, stride=stem.stride, act=stem.act)
        if depth > 1:
            h = g.conv("conv2", x, half, kernel=stem.kernel, act=stem.act)
            x = g.residual("skip", x, h, 1)
        x = g.conv("conv3", x, width, kernel=stem.kernel, act=stem.act)
        return g.maxpool("pool", x, kernel=3, stride=2)


def add_head(g: GraphBuilder, x: Tensor, hs: Hyperspace, width: int | None) -> Tensor:
    """Append the head, to the logits; ``width``: of its first convolution, None for the first that the hyperspace has."""
    with g.scope("head"):
        if hs.head.final_expand:
            x = g.conv("final_expand", x, width or hs.head.final_expand[0], act=hs.head.act)
        x = g.mean("pool", x)
        if hs.head.feature_mix is not None:
            x = g.conv("feature_mix", x, hs.head.feature_mix, act=hs.head.act)
    return g.conv(CLASSIFIER, x, hs.classes, norm=False)


def stage_graph(stage: ElasticStage, blocks: Stage, cin: int, hw: int, superset: bool = False) -> Graph:
    """A sub-stage alone, on an input ``[B, cin, hw, hw]``."""
    g = GraphBuilder(cin, hw, superset)
    add_stage(g, g.x, stage, blocks)
    return g.graph


def stage_input_hw(hs: Hyperspace, resolution: int) -> list[int]:
    """The input size of every searched stage, and last the size after them all."""
    hw = -(-resolution // hs.stem.reduction)
    if hs.stage0 is not None:
        hw = -(-hw // hs.stage0.stride)
    sizes = [hw]
    for stage in hs.stages:
        sizes.append(-(-sizes[-1] // stage.stride))
    return sizes
