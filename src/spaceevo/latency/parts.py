"""A subnet's predicted latency in its parts, how sure each of them is, and where the prediction extrapolates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaceevo.evolution.additive import placed_in
from spaceevo.latency.domain import beyond, kernel_of
from spaceevo.latency.predictor import Predictor
from spaceevo.space import Subnet, subnet_graph

CALL, STEM, HEAD = "call", "stem", "head"
Ratios = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A part of a subnet, or all of it: INT8 ms as predicted, and what nine of ten measure at least and at most (None: not
    known). ``estimated``: added up from ops on a device where whole blocks are known."""

    name: str
    ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    estimated: bool = False

    def holds(self, measured_ms: float) -> bool | None:
        """Whether ``measured_ms`` lies in the interval; None where there is none."""
        return None if self.low_ms is None or self.high_ms is None else self.low_ms <= measured_ms <= self.high_ms


def stage_of(op: str) -> str:
    """The part of a network that an op of that name is in: ``stem``, a stage, or ``head``."""
    first = op.split(".")[0].removesuffix("_act")
    return first if first == STEM or first.startswith("stage") else HEAD


def by_stage(predictor: Predictor, net: Subnet) -> list[Part]:
    """The call (of a device where it is known), stem, stages and head, which add up to ``predictor.subnet_ms(net)``. Of a
    device whose blocks are known each has an interval; of others only the whole has."""
    names = [stage_of(op.name) for op in subnet_graph(net).ops]
    parts = _summed(predictor, net, names)
    if predictor.blocks is None:
        return parts
    missing = {stage for stage, _ in _not_in_the_tables(predictor, net)}
    apart = {CALL, STEM, HEAD, *(stage.name for stage in net.space.all_stages if stage.name not in _searched(net))}

    def sure(part: Part) -> Part:
        if part.name in apart:
            return _between(part, predictor.ends_interval, True)
        return _between(part, None, True) if part.name in missing else _between(part, predictor.blocks_interval, False)

    return [sure(part) for part in parts]


def by_kernel(predictor: Predictor, net: Subnet) -> list[Part]:
    """The call, and the sums over all kernels of a kind, the slowest kind first."""
    first, *kinds = _summed(predictor, net, [kernel_of(op) for op in subnet_graph(net).ops])
    rest = sorted(kinds if first.name == CALL else [first, *kinds], key=lambda part: -part.ms)
    return [first, *rest] if first.name == CALL else rest


def whole(predictor: Predictor, net: Subnet) -> Part:
    """The subnet's latency, with its interval where one is known. Where it is known by parts it is the sum of their ends: at
    least as wide as that of nine of ten."""
    total = Part("total", predictor.subnet_ms(net))
    if predictor.interval is not None:
        return _between(total, predictor.interval, False)
    parts = by_stage(predictor, net)
    low, high = [part.low_ms for part in parts], [part.high_ms for part in parts]
    if None in low or None in high:
        return total
    return Part("total", total.ms, sum(ms or 0.0 for ms in low), sum(ms or 0.0 for ms in high))


def extrapolated(predictor: Predictor, net: Subnet) -> list[str] | None:
    """Where ``net`` is beyond all that the predictor was fitted to, a line each; None: the predictor does not tell to what."""
    graph = subnet_graph(net)
    if predictor.blocks is not None:
        outside = [f"{stage}.{place} is no block of the tables" for stage, place in _not_in_the_tables(predictor, net)]
        return outside + [f"nothing is known of {kind}, which counts 0 ms" for kind in predictor.unknown(graph)]
    return None if predictor.domain is None else beyond(predictor.domain, graph.ops)


def extrapolating(predictor: Predictor, net: Subnet) -> str | None:
    """The same in one line; None where it does not extrapolate, as far as is known."""
    places = extrapolated(predictor, net)
    return shortened(places) if places else None


def shortened(told: Sequence[str], most: int = 3) -> str:
    """The first ``most`` of ``told``, and how many there are beside them."""
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more


def _summed(predictor: Predictor, net: Subnet, names: Sequence[str]) -> list[Part]:
    """The ms of the call, and of ops by their ``names``, in the order of the graph."""
    each = predictor.net_ops_ms(net)
    call = predictor.subnet_ms(net) - sum(each)
    sums = {CALL: call} if call > 1e-9 * sum(each) else {}
    for name, ms in zip(names, each, strict=True):
        sums[name] = sums.get(name, 0.0) + ms
    return [Part(name, ms) for name, ms in sums.items()]


def _between(part: Part, ratios: Ratios | None, estimated: bool) -> Part:
    if ratios is None:
        return Part(part.name, part.ms, estimated=estimated)
    return Part(part.name, part.ms, ratios[0] * part.ms, ratios[1] * part.ms, estimated)


def _searched(net: Subnet) -> set[str]:
    """The stages that are searched, and not stage 0, which no published table has."""
    return {stage.name for stage in net.space.stages}


def _not_in_the_tables(predictor: Predictor, net: Subnet) -> list[tuple[str, int]]:
    """Blocks of searched stages that are not among the known ones: stage and place."""
    found, places, searched = [], dict[str, int](), _searched(net)
    for stage, block, cin, hw in placed_in(net):
        place = places[stage.name] = places.get(stage.name, -1) + 1
        if stage.name in searched and predictor.blocks is not None and predictor.blocks.block_ms(stage, block, cin, hw) is None:
            found.append((stage.name, place))
    return found
