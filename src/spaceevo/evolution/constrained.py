"""Constrained evolution over subnets of one space (OFA, Cai et al., ICLR 2020; paper section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space import SearchSpace, Subnet

TRIES = 200  # proposals a wanted subnet before settling for fewer


@dataclass(frozen=True)
class Evaluated:
    """A subnet with its cost, its quality and the generation it was born in."""

    subnet: Subnet
    cost: float
    quality: float
    generation: int


def constrained_evolution(
    space: SearchSpace,
    cost: Callable[[Subnet], float],
    limit: float,
    quality: Callable[[list[Subnet]], list[float]],
    *,
    population: int,
    parents: int,
    generations: int,
    mutate_probability: float,
    seed: int,
    seeds: Sequence[Subnet] = (),
) -> list[Evaluated]:
    """Everything evaluated in the search for the best ``quality`` at a ``cost`` of at most ``limit``.

    Random subnets first (and those of ``seeds``); then ``generations`` of children of the ``parents`` best, half by
    mutation and half by crossover. ``quality`` is asked for a whole generation at once and never twice for a subnet.

    Raises:
        UserError: even the smallest subnet costs more; names what can be reached.
    """
    rng = np.random.default_rng(seed)
    smallest = min((Subnet.smallest(space, r) for r in space.hyperspace.resolutions), key=cost)
    if cost(smallest) > limit:
        raise UserError(
            f"latency.limits_ms={limit:g}: below the fastest subnet of {space}; "
            f"the smallest reachable is {cost(smallest):.4g} ms"
        )
    seen: set[Subnet] = set()
    costs: dict[Subnet, float] = {}

    def accept(proposals: Callable[[], Subnet], count: int) -> list[Subnet]:
        """``count`` new subnets within the limit, or as many as a bounded number of proposals gives."""
        accepted: list[Subnet] = []
        for _ in range(TRIES * count):
            if len(accepted) == count:
                break
            net = proposals()
            if net not in seen:
                costs[net] = cost(net)
                seen.add(net)
                if costs[net] <= limit:
                    accepted.append(net)
        return accepted

    def evaluate(nets: list[Subnet], generation: int) -> list[Evaluated]:
        scores = quality(nets) if nets else []
        return [Evaluated(net, costs[net], q, generation) for net, q in zip(nets, scores, strict=True)]

    given = iter([*seeds, smallest])
    first = accept(lambda: next(given, smallest), len(seeds) + 1)
    first += accept(lambda: Subnet.sample(space, rng), population - len(first))
    first += accept(lambda: first[int(rng.integers(len(first)))].mutate(rng, mutate_probability), population - len(first))
    found = evaluate(first, 0)
    for generation in range(1, generations + 1):
        best = sorted(found, key=lambda e: -e.quality)[:parents]

        def pick(best: list[Evaluated] = best) -> Subnet:
            return best[int(rng.integers(len(best)))].subnet

        children = accept(lambda: pick().mutate(rng, mutate_probability), population // 2)
        children += accept(lambda: pick().crossover(pick(), rng), population - population // 2)
        found += evaluate(children, generation)
    return found


def pareto_front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in both cost (less) and quality (more), by rising cost."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i])):
        if not front or qualities[i] > qualities[front[-1]]:
            front.append(i)
    return front
