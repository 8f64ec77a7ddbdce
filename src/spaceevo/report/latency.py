"""The exported models' latency for the page: predicted in its parts beside what was measured, and how sure that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaceevo.deploy.runtimes.op_latency import AFTER, BEFORE
from spaceevo.errors import UserError
from spaceevo.latency.domain import kernel_of
from spaceevo.latency.parts import CALL, Part, by_kernel, by_stage, extrapolated, stage_of, whole
from spaceevo.latency.predictor import Predictor
from spaceevo.space import Hyperspace, SearchSpace, Subnet, subnet_graph


@dataclass(frozen=True)
class PartRow:
    """A part of a model: as predicted, and ms in INT8 and FP32 by onnxruntime's profiler (None: not measured)."""

    part: Part
    int8_ms: float | None
    fp32_ms: float | None


@dataclass(frozen=True)
class Latency:
    """An exported model: its card, its whole latency as predicted, that by stage and by kind of kernel, and where the
    prediction extrapolates (None: the predictor does not tell)."""

    card: Mapping[str, Any]
    total: Part
    stages: Sequence[PartRow]
    kernels: Sequence[PartRow]
    extrapolated: Sequence[str] | None

    @property
    def measured(self) -> list[tuple[float, bool | None]]:
        """Ms at the export and in the benchmark, as far as there are, each with whether the interval holds it."""
        given = (self.card["measured_ms"], self.card["again_ms"])
        return [(ms, self.total.holds(ms)) for ms in given if ms is not None]


def latencies(cards: Sequence[Mapping[str, Any]], predictor: Predictor | None, hs: Hyperspace) -> list[Latency]:
    """Of every card whose subnet is one of ``hs``, for the card's images; none without a predictor."""
    found = []
    for card in cards if predictor is not None else ():
        try:
            own = hs.with_task(card["data"]["channels"], card["data"]["classes"])
            net = Subnet.parse(SearchSpace.parse(card["space"], own), card["encoding"])
        except (UserError, KeyError):  # a card of an older version has no data
            continue
        assert predictor is not None
        found.append(_latency(card, predictor, net))
    return found


def held(models: Sequence[Latency]) -> tuple[int, int]:
    """How many measurements lie in the interval of their prediction, and of how many that have one."""
    inside = [holds for model in models for _, holds in model.measured if holds is not None]
    return sum(inside), len(inside)


def _latency(card: Mapping[str, Any], predictor: Predictor, net: Subnet) -> Latency:
    kernels = {op.name: kernel_of(op) for op in subnet_graph(net).ops}
    rows = card.get("ops") or []
    stages = _beside(by_stage(predictor, net), rows, stage_of)
    kinds = _beside(by_kernel(predictor, net), rows, lambda op: kernels.get(op, op))
    return Latency(card, whole(predictor, net), stages, kinds, extrapolated(predictor, net))


def _beside(parts: Sequence[Part], ops: Sequence[Mapping[str, Any]], name_of: Callable[[str], str]) -> list[PartRow]:
    """``parts`` beside the sums of a card's ``ops``: what comes before and after them is the call's."""
    if not ops:
        return [PartRow(part, None, None) for part in parts]
    sums: dict[str, list[float | None]] = {}
    for row in ops:
        name = CALL if row["op"] in (BEFORE, AFTER) else name_of(row["op"])
        known = sums.setdefault(name, [None, None])
        for i, ms in enumerate((row["int8_ms"], row["fp32_ms"])):
            known[i] = known[i] if ms is None else (known[i] or 0.0) + ms
    all_parts = parts if parts[0].name == CALL or CALL not in sums else [Part(CALL, 0.0), *parts]
    return [PartRow(part, *sums.get(part.name, (None, None))) for part in all_parts]
