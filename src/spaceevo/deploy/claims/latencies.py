"""Latencies here beside a card's: told, not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spaceevo.deploy.claims.claim import Claim
from spaceevo.deploy.claims.ran import Ran, place_of
from spaceevo.deploy.runtimes.registry import RUNTIMES, measure_cold, measure_files, runtime_of_card
from spaceevo.latency.machines.machine import HERE, Machine
from spaceevo.latency.measure import latency


def latency_claims(
    card: Mapping[str, Any], files: Mapping[str, bytes], able: Sequence[Ran], machine: Machine = HERE
) -> list[Claim]:
    """Latencies of the ``able`` on ``machine`` beside the card's, and the speed-up of INT8: told, not judged."""
    rounds, runs, threads, spread_s = (card["timing"][key] for key in ("rounds", "runs", "threads", "spread_s"))
    what, found = f"latency, {threads} thread{'s' if threads > 1 else ''}", []
    here: dict[str, float] = {}  # by the card's key
    for runtime in RUNTIMES.values():
        timed = {one.file: one for one in able if one.by is runtime and one.claims["measured_ms"] is not None}
        contents = {name: files[name] for name in timed}
        times = measure_files(contents, machine, [runtime], rounds, runs, threads, spread_s).get(runtime.name, {})
        here |= {timed[name].key: latency(taken) for name, taken in times.items()}
        found += [_beside(one.words, what, one.claims["measured_ms"], here[one.key]) for one in timed.values()]
        told_cold = {name: files[name] for name, one in timed.items() if one.claims.get("cold_ms") is not None}
        cold = measure_cold(told_cold, machine, [runtime], threads).get(runtime.name, {})
        found += [_beside(timed[n].words, "latency, cold caches", timed[n].claims["cold_ms"], ms) for n, ms in cold.items()]
    return [*found, *_of_the_model(card, here)]


def _of_the_model(card: Mapping[str, Any], here: Mapping[str, float]) -> list[Claim]:
    """The speed-up and the limit, in the runtime whose latency is the model's."""
    runtime, found = runtime_of_card(card), []
    int8, fp32 = (here.get(f"{place_of(runtime)}/{name}") for name in (runtime.int8, runtime.fp32))
    if int8 is not None and fp32 is not None and card.get("speedup") is not None:
        found.append(Claim(runtime.int8, "speed-up over FP32", f"{card['speedup']:.2f}x", f"{fp32 / int8:.2f}x"))
    if int8 is not None and card.get("limit_ms") is not None:
        kept = "kept" if int8 <= card["limit_ms"] else "not kept"
        found.append(Claim(runtime.int8, "latency limit", f"{card['limit_ms']:.4g} ms", kept))
    return found


def _beside(name: str, what: str, claimed_ms: float, ms: float) -> Claim:
    return Claim(name, what, f"{claimed_ms:.4g} ms", f"{ms:.4g} ms ({ms / claimed_ms:.2f}x)")
