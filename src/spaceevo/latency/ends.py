"""What a subnet's latency is beyond its searched stages': the call itself, stem and stage 0 before them, the head after."""

from __future__ import annotations

import numpy as np

from spaceevo.evolution import Ends
from spaceevo.evolution.additive import block_costs
from spaceevo.latency.predictor import Predictor
from spaceevo.space import Hyperspace, Subnet, any_space, stage_input_hw, subnet_graph
from spaceevo.space.build import add_head, add_stem
from spaceevo.space.graph import GraphBuilder


def ends_of(predictor: Predictor, hs: Hyperspace) -> Ends:
    """Predicted ms at every resolution of ``hs.lut_resolutions``, so that with the stages' own they add up to the subnet's."""
    return Ends(
        {r: _call(predictor, hs, r) for r in hs.lut_resolutions},
        {r: _entry(predictor, hs, r) for r in hs.lut_resolutions},
        {r: _exit(predictor, hs, r) for r in hs.lut_resolutions},
    )


def _call(predictor: Predictor, hs: Hyperspace, resolution: int) -> float:
    graph = subnet_graph(Subnet.smallest(any_space(hs), resolution))
    return predictor.graph_ms(graph) - sum(predictor.ops_ms(graph))


def _entry(predictor: Predictor, hs: Hyperspace, resolution: int) -> dict[int, float]:
    """By the width that comes out: the mean over stems, and over stage 0's sub-stages of that width, as random subnets have
    them."""
    ms = np.array([np.mean([_stem(predictor, hs, resolution, w, d) for d in hs.stem.depths]) for w in hs.stem.widths])
    if hs.stage0 is None:
        return dict(zip(hs.stem.widths, ms.tolist(), strict=True))
    stage, hw = any_space(hs).all_stages[0], -(-resolution // hs.stem.reduction)
    costs = block_costs(stage, hs.stem.widths, [hw], predictor.block_ms)
    first, rest = (part[0].mean((1, 3)) for part in costs)  # [widths before, widths]
    ms, after = (ms[:, None] + first).mean(0), {}
    for depth in range(1, max(stage.depths) + 1):
        if depth > 1:
            ms = ms + np.diag(rest) if stage.one_width else (ms[:, None] + rest).mean(0)
        after[depth] = ms
    return dict(zip(stage.widths, np.mean([after[d] for d in stage.depths], axis=0).tolist(), strict=True))


def _stem(predictor: Predictor, hs: Hyperspace, resolution: int, width: int, depth: int) -> float:
    g = GraphBuilder(hs.channels, resolution)
    add_stem(g, g.x, hs.stem, width, depth)
    return sum(predictor.ops_ms(g.graph))


def _exit(predictor: Predictor, hs: Hyperspace, resolution: int) -> dict[int, float]:
    """By the last stage's width: the mean over the head's widths."""
    hw = stage_input_hw(hs, resolution)[-1]

    def head(cin: int, width: int | None) -> float:
        g = GraphBuilder(cin, hw)
        add_head(g, g.x, hs, width)
        return sum(predictor.ops_ms(g.graph))

    return {w: float(np.mean([head(w, width) for width in hs.head.final_expand or [None]])) for w in hs.stages[-1].widths}
