"""Which models to profile for a hyperspace: single blocks of every stage and type, and whole random subnets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spaceevo.space import (
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
    pairs = [(stage, block) for stage, spec in enumerate(hs.stages) for block in spec.types]
    for i in range(blocks):
        stage, block = pairs[i % len(pairs)]
        hw = stage_input_hw(hs, int(rng.choice(hs.resolutions)))[stage]
        elastic = hs.elastic(stage, block)
        text = f"{stage}:{block}:{rng.choice(hs.input_widths(stage))}:{hw}:{format_stage(random_stage(elastic, rng))}"
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
    return stage_graph(hs.elastic(int(stage), int(block)), parse_stage(config), int(cin), int(hw))
