"""The sandwich rule (BigNAS, Yu et al., ECCV 2020): every step trains the largest, the smallest and random paths.

The largest has the most of every choice, the smallest the least; neither is chosen by what it costs. Trained in every step,
the smallest subnet and its likes inherit better weights than all others, and so look better than they are once they are trained
on (``docs/training.md``): without ``smallest`` one more random path takes its place.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from spaceevo.space import ElasticStage, SearchSpace, Stage, Subnet, extreme_stage, random_stage

T = TypeVar("T")


def sandwich_subnets(
    space: SearchSpace, resolution: int, random_paths: int, rng: np.random.Generator, smallest: bool = True
) -> list[Subnet]:
    """Largest, smallest (or a random one), then ``random_paths`` random subnets, all at the batch's resolution."""
    second = Subnet.smallest(space, resolution) if smallest else Subnet.sample(space, rng, resolution)
    paths = [Subnet.largest(space, resolution), second]
    return paths + [Subnet.sample(space, rng, resolution) for _ in range(random_paths)]


def sandwich_stages(
    stage: ElasticStage, input_widths: tuple[int, ...], random_paths: int, rng: np.random.Generator
) -> list[tuple[int, Stage]]:
    """The same for one elastic stage: pairs of input width and sub-stage."""
    largest, smallest = extreme_stage(stage, largest=True), extreme_stage(stage, largest=False)
    paths = [(max(input_widths), largest), (min(input_widths), smallest)]
    return paths + [(int(rng.choice(input_widths)), random_stage(stage, rng)) for _ in range(random_paths)]
