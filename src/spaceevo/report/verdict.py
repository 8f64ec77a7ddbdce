"""What is said of a run's models beside its baselines: plain data in, verdict and words out.

A candidate (a network, or a model of the run) has a ``name`` and, by runtime, ``top1`` (test, percent) and ``measured_ms``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Candidate = Mapping[str, Any]


def beats(one: Candidate, other: Candidate, runtime: str) -> bool:
    """Whether ``one`` is more accurate than ``other`` at no more latency."""
    return bool(one["top1"][runtime] > other["top1"][runtime] and one["measured_ms"][runtime] <= other["measured_ms"][runtime])


def at_limit(candidates: Sequence[Candidate], limit_ms: float) -> Candidate | None:
    """The candidate made for the largest limit that is no more than ``limit_ms``; None: none was."""
    return max((c for c in candidates if c["limit_ms"] <= limit_ms), key=lambda c: c["limit_ms"], default=None)


def verdict(
    networks: Sequence[Candidate], models: Sequence[Candidate], at: Sequence[Candidate], runtime: str
) -> dict[str, Any]:
    """In one runtime: which networks beat each of ``models``, and beside each network the candidate of ``at`` made for its
    latency (``limit_ms`` of either): ``points`` of top-1 that the run has more, and how many times as fast it is."""
    beaten = {model["name"]: [net["name"] for net in networks if beats(net, model, runtime)] for model in models}
    beside = []
    for net in networks:
        mine = at_limit(at, net["limit_ms"])
        row: dict[str, Any] = dict(baseline=net["name"], model=None, points=None, speed=None)
        if mine is not None:
            points = mine["top1"][runtime] - net["top1"][runtime]
            row |= dict(model=mine["name"], points=points, speed=net["measured_ms"][runtime] / mine["measured_ms"][runtime])
        beside.append(row)
    return dict(runtime=runtime, beaten=beaten, beside=beside)


def verdict_words(found: Mapping[str, Any]) -> list[str]:
    """The verdicts of ``baselines.yaml`` in words: network by network, and model by model, in each runtime."""
    return [line for told in found["verdict"] for line in [*_beside_words(found, told), *_beaten_words(found, told)]]


def verdict_sums(found: Mapping[str, Any]) -> list[str]:
    """The sum of them, a line a runtime."""
    lines = []
    for told in found["verdict"]:
        beaten, beside = told["beaten"], [row for row in told["beside"] if row["model"] is not None]
        lines.append(
            f"{told['runtime']}: baselines beat {sum(map(bool, beaten.values()))} of {len(beaten)} models; at a baseline's "
            f"latency the run is more accurate than {sum(row['points'] > 0 for row in beside)} of {len(told['beside'])} "
            f"baselines, and has none so fast as {len(told['beside']) - len(beside)}"
        )
    return lines


def _beside_words(found: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """What the run has at the latency of each network."""
    runtime, lines = told["runtime"], []
    networks, at = (_by_name(found[key]) for key in ("networks", "at"))
    for row in told["beside"]:
        has = "none so fast"
        if row["model"] is not None:
            mine = _figures(at[row["model"]], runtime)
            has = f"{mine}: {row['points']:+.2f} points, {row['speed']:.2f} times the speed"
        lines.append(f"{runtime}: at the latency of {_figures(networks[row['baseline']], runtime)} the run has {has}")
    return lines


def _beaten_words(found: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """Which networks beat each model."""
    runtime, lines = told["runtime"], []
    networks, models = (_by_name(found[key]) for key in ("networks", "models"))
    for name, by in told["beaten"].items():
        winners = ", ".join(_figures(networks[net], runtime) for net in by) or "no baseline"
        lines.append(f"{runtime}: {_figures(models[name], runtime)} is beaten by {winners}")
    return lines


def _by_name(rows: Sequence[Candidate]) -> dict[str, Candidate]:
    return {row["name"]: row for row in rows}


def _figures(candidate: Candidate, runtime: str) -> str:
    return f"{candidate['name']} ({candidate['top1'][runtime]:.2f} % at {candidate['measured_ms'][runtime]:.4g} ms)"
