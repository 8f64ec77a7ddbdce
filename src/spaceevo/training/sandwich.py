"""The sandwich rule (BigNAS, Yu et al., ECCV 2020): every step trains the largest, the smallest and random paths.

The largest has the most of every choice, the smallest the least; neither is chosen by what it costs.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from spaceevo.space import ElasticStage, SearchSpace, Stage, Subnet, extreme_stage, random_stage

T = TypeVar("T")


def sandwich_subnets(space: SearchSpace, resolution: int, random_paths: int, rng: np.random.Generator) -> list[Subnet]:
    """Largest, smallest, then ``random_paths`` random subnets, all at the batch's resolution."""
    extremes = [Subnet.largest(space, resolution), Subnet.smallest(space, resolution)]
    return extremes + [Subnet.sample(space, rng, resolution) for _ in range(random_paths)]


def sandwich_stages(
    stage: ElasticStage, input_widths: tuple[int, ...], random_paths: int, rng: np.random.Generator
) -> list[tuple[int, Stage]]:
    """The same for one elastic stage: pairs of input width and sub-stage."""
    largest, smallest = extreme_stage(stage, largest=True), extreme_stage(stage, largest=False)
    paths = [(max(input_widths), largest), (min(input_widths), smallest)]
    return paths + [(int(rng.choice(input_widths)), random_stage(stage, rng)) for _ in range(random_paths)]
