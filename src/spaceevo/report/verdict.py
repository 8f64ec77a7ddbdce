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
    """The verdicts of ``baselines.yaml`` in words, the sum of each runtime last."""
    return [line for told in found["verdict"] for line in _words(found, told)]


def _words(found: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    runtime = told["runtime"]
    networks, models, at = ({row["name"]: row for row in found[key]} for key in ("networks", "models", "at"))
    lines = []
    for row in told["beside"]:
        where = f"{runtime}: at the latency of {_figures(networks[row['baseline']], runtime)}"
        if row["model"] is None:
            lines.append(f"{where} the run has none so fast")
        else:
            mine = _figures(at[row["model"]], runtime)
            lines.append(f"{where} the run has {mine}: {row['points']:+.2f} points, {row['speed']:.2f} times the speed")
    for name, by in told["beaten"].items():
        mine = f"{runtime}: {_figures(models[name], runtime)}"
        beaten = "is beaten by " + ", ".join(_figures(networks[net], runtime) for net in by)
        lines.append(f"{mine} {beaten if by else 'is beaten by no baseline'}")
    lost = sum(bool(by) for by in told["beaten"].values())
    more = sum(row["model"] is not None and row["points"] > 0 for row in told["beside"])
    none = sum(row["model"] is None for row in told["beside"])
    lines.append(
        f"{runtime}: baselines beat {lost} of {len(told['beaten'])} models; at a baseline's latency the run is more accurate "
        f"than {more} of {len(told['beside'])}, and has none so fast as {none}"
    )
    return lines


def _figures(candidate: Candidate, runtime: str) -> str:
    return f"{candidate['name']} ({candidate['top1'][runtime]:.2f} % at {candidate['measured_ms'][runtime]:.4g} ms)"
