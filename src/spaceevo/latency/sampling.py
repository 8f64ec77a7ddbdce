"""Which models to profile for a hyperspace: single blocks of every stage and type, and whole random subnets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.space import (
    ElasticStage,
    Graph,
    Hyperspace,
    SearchSpace,
    Subnet,
    format_stage,
    parse_stage,
    random_stage,
    stage_graph,
    stage_input_hw,
    subnet_graph,
)


@dataclass(frozen=True)
class Sample:
    """A model to measure. ``spec``: what ``graph_of`` rebuilds the graph from."""

    name: str
    kind: str
    spec: str


def sample_models(hs: Hyperspace, blocks: int, subnets: int, rng: np.random.Generator) -> list[Sample]:
    """``blocks`` sub-stages, evenly over stages and types, and ``subnets`` random subnets of random search spaces."""
    samples = []
    inputs = [hs.stem.widths if hs.stage0 is None else hs.stage0.widths, *(s.widths for s in hs.stages)]
    pairs = [(stage, block) for stage in range(len(hs.stages)) for block in range(len(hs.blocks))]
    for i in range(blocks):
        stage, block = pairs[i % len(pairs)]
        space = SearchSpace(hs, (block,) * len(hs.stages), (0,) * len(hs.stages))
        hw = stage_input_hw(space, int(rng.choice(hs.resolutions)))[stage]
        elastic = _elastic(hs, stage, block)
        text = f"{stage}:{block}:{rng.choice(inputs[stage])}:{hw}:{format_stage(random_stage(elastic, rng))}"
        samples.append(Sample(f"block-{i}", "block", text))
    for i in range(subnets):
        space = SearchSpace.sample(hs, rng)
        samples.append(Sample(f"subnet-{i}", "subnet", f"{space}:{Subnet.sample(space, rng)}"))
    return samples


def graph_of(kind: str, spec: str, hs: Hyperspace) -> Graph:
    """The op graph that a sample or a row of ``kernels.parquet`` stands for."""
    if kind == "subnet":
        space, net = spec.split(":")
        return subnet_graph(Subnet.parse(SearchSpace.parse(space, hs), net))
    stage, block, cin, hw, config = spec.split(":")
    return stage_graph(_elastic(hs, int(stage), int(block)), parse_stage(config), int(cin), int(hw))


def _elastic(hs: Hyperspace, stage: int, block: int) -> ElasticStage:
    spec = hs.stages[stage]
    return ElasticStage(f"stage{stage + 1}", hs.blocks[block], spec.widths, spec.depths, spec.stride)
