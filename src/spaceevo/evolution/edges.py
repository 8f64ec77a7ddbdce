"""What lies on an edge of what may be searched: there may be better beyond, so it is said what to widen."""

from __future__ import annotations

from spaceevo.space import SearchSpace, Subnet

UNUSED = 0.10  # of a limit's latency


def space_edge(space: SearchSpace) -> str | None:
    """Which stages of ``space`` have the narrowest or the widest width window of several, None where none has."""
    stages = list(enumerate(zip(space.windows, space.hyperspace.stages, strict=True), start=1))
    first = [number for number, (window, spec) in stages if spec.windows > 1 and window == 0]
    last = [number for number, (window, spec) in stages if spec.windows > 1 and window == spec.windows - 1]
    found = [f"the {name} width window in {_stages(some)}" for name, some in (("narrowest", first), ("widest", last)) if some]
    if not found:
        return None
    wanted = [f"{name} hyperspace.stages[...].widths" for name, some in (("narrower", first), ("wider", last)) if some]
    return f"on the edge of its hyperspace: {' and '.join(found)}; give {' and '.join(wanted)} there"


def subnet_edge(subnet: Subnet, limit_ms: float, ms: float) -> str | None:
    """Whether ``subnet``, predicted at ``ms``, leaves more than ``UNUSED`` of ``limit_ms`` or is the largest of its space,
    and what to do about it; None where neither."""
    largest, unused = subnet == Subnet.largest(subnet.space), 1 - ms / limit_ms
    found = [f"leaves {100 * unused:.0f} % of the latency unused"] * (unused > UNUSED)
    found += ["is the largest of its space in every choice"] * largest
    if not found:
        return None
    advice = "a larger hyperspace (stages' widths and depths, resolutions) or a smaller limit"
    if not largest:
        advice = "search_subnet.generations or .population more, or a smaller limit"
    return f"the subnet {' and '.join(found)}; give {advice}"


def _stages(numbers: list[int]) -> str:
    return f"stage{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
