"""Timing model files: one thread, rounds interleaved over models, a low quantile as *the* latency.

A timed call is what an app does with a prepared image: the input tensor, in the form that the file takes, is given to the
runtime, the model run, and the output fetched. Calls follow each other at once, as is the field's convention: the model's
weights and buffers are then in the CPU's caches. :func:`cold_ms` is the other end, a call after other work has had them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from spaceevo.latency.host import check_threads
from spaceevo.latency.runtimes.call import Call, opener

GROUP = 40  # sessions held at once
WARM_UP = 3
LOW = 0.2  # the quantile that is called the latency: a noisy neighbour only ever adds
COLD_CALLS, EVICTED = 15, 64 * 2**20  # of a model; bytes of other traffic before each
DISTURBED, PATIENCE = 1.1, 3  # that quantile over the fastest call, of most models; how many times the rounds at most


def measure(
    models: Mapping[str, bytes | Path],
    rounds: int,
    runs: int,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    spread_s: float = 0.0,
    open_call: Call | None = None,
) -> dict[str, np.ndarray]:
    """Milliseconds of single calls, ``rounds * runs`` a model; up to ``PATIENCE`` times as many while the machine is disturbed.

    A round times ``runs`` calls of one model after the other, so that drift and disturbances meet all alike;
    ``spread_s`` spreads the rounds over as many seconds, so that a neighbour's burst does not meet them all; where it did,
    and the latency is not near the fastest call, more rounds are waited for, each time twice as long.
    The input is random noise. ``open_call``: loads a model for a number of threads in another runtime than onnxruntime, and
    gives its call.
    """
    check_threads(threads)
    open_one, names = open_call or opener("onnxruntime"), list(models)
    times: dict[str, np.ndarray] = {}
    for start in range(0, len(names), GROUP):
        group = names[start : start + GROUP]
        calls = {name: open_one(models[name], threads) for name in group}
        taken: dict[str, list[float]] = {name: [] for name in group}
        turn = 0
        while turn < rounds or (turn < PATIENCE * rounds and _disturbed(taken.values())):
            if turn:
                time.sleep(spread_s / rounds * 2 ** (turn // rounds))
            for name in group:
                taken[name] += _time(calls[name], runs)
            turn += 1
        times |= {name: np.array(values) for name, values in taken.items()}
        if progress is not None:
            progress(start + len(group))
    return times


def cold_ms(models: Mapping[str, bytes | Path], threads: int = 1, open_call: Call | None = None) -> dict[str, float]:
    """The median ms of calls that each come after ``EVICTED`` bytes of other traffic, the models in turn."""
    open_one = open_call or opener("onnxruntime")
    calls = {name: open_one(model, threads) for name, model in models.items()}
    others = np.zeros(EVICTED // 8, np.int64)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # what a first call allocates
    for _ in range(COLD_CALLS):
        for name, call in calls.items():
            others += 1
            taken[name].append(_ms(call))
    return {name: float(np.median(values)) for name, values in taken.items()}


def latency(times: np.ndarray) -> float:
    """The latency in ms that is claimed: a low quantile of the calls."""
    return float(np.quantile(times, LOW))


def quantiles(times: np.ndarray) -> dict[str, float]:
    """The spread of the calls in ms."""
    p10, p50, p90 = (float(q) for q in np.quantile(times, (0.1, 0.5, 0.9)))
    return {"min": float(times.min()), "p10": p10, "p50": p50, "p90": p90}


def _disturbed(taken: Iterable[list[float]]) -> bool:
    return float(np.median([np.quantile(values, LOW) / min(values) for values in taken])) > DISTURBED


def _time(call: Callable[[], object], runs: int) -> list[float]:
    for _ in range(WARM_UP):
        call()
    return [_ms(call) for _ in range(runs)]


def _ms(call: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) / 1e6
