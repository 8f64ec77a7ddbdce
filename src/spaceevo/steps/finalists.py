"""The finalists of the subnet search: those within a limit are measured, and the best that measures within it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from spaceevo.deploy.runtimes.registry import runtime_called
from spaceevo.deploy.runtimes.timing import timing_writer
from spaceevo.errors import LimitError
from spaceevo.evolution import Archive
from spaceevo.latency.machines.machine import machine_of
from spaceevo.latency.measure import latency
from spaceevo.space import Subnet, subnet_graph
from spaceevo.steps.common import quantizer
from spaceevo.steps.judges import Judge
from spaceevo.steps.needs import Measured, OnADevice

MEASURED_HEADROOM = 0.98  # of a limit that a measured latency keeps: the export measures again
MEASURED_GROUPS = 20  # groups of finalists measured for a limit before giving up


class Few(Protocol):
    """How many finalists of a limit are measured."""

    measure_top: int


class Needs(OnADevice, Protocol):
    """What it reads of the config."""

    @property
    def search_subnet(self) -> Few: ...

    @property
    def benchmark(self) -> Measured: ...


def choose(
    cfg: Needs,
    name: str,
    limit: float,
    archive: Archive,
    smaller: list[dict[str, Any]],
    judge: Judge,
    predicted_ms: Callable,
) -> dict[str, Any]:
    """The entry of ``limit``, as the model ``name``: the best finalist, never worse than those of ``smaller`` limits."""
    winners = [Subnet.parse(judge.space, entry["subnet"]) for entry in smaller]
    few = cfg.search_subnet.measure_top + len(winners)
    ranked = archive.subnets(archive.ranked(limit)[: few * MEASURED_GROUPS])
    best, measured = within(cfg, limit, list(dict.fromkeys([*winners, *ranked])), few, judge)
    ms = float(predicted_ms(judge.code.encode([best]))[0])
    return dict(
        name=name,
        limit_ms=limit,
        subnet=str(best),
        space=str(judge.space),
        loss_finalists=-judge.final([best])[0] if judge.judged == "top1_val" else None,
        predicted_ms=ms,
        measured_ms=measured,
    )


def within(cfg: Needs, limit: float, ranked: list[Subnet], few: int, judge: Judge) -> tuple[Subnet, float | None]:
    """Of the first ``few`` in ``ranked`` that measure within ``limit``, the best by ``judge.final``, and its ms.

    Raises:
        LimitError: none of them all measures within the limit.
    """
    if cfg.device.runtime == "none":
        return _best(ranked[:few], judge), None
    runtime = runtime_called(cfg.device.runtime)
    write = timing_writer(quantizer(cfg), cfg.device.padding, runtime.name)
    measured: dict[Subnet, float] = {}
    fitting: list[Subnet] = []
    for start in range(0, len(ranked), few):
        group = ranked[start : start + few]
        models = {str(subnet): write(subnet_graph(subnet))[0] for subnet in group}
        spread_s = cfg.benchmark.spread_s / 4  # the claim is measured at the export
        rounds, runs, threads = cfg.benchmark.rounds, cfg.benchmark.runs, cfg.device.threads
        times = machine_of(cfg.device).measure(runtime.name, models, rounds, runs, threads, spread_s)
        measured |= {subnet: latency(times[str(subnet)]) for subnet in group}
        fitting = [subnet for subnet, ms in measured.items() if ms <= MEASURED_HEADROOM * limit][:few]
        if len(fitting) == few:
            break
    if not fitting:
        fastest = min(measured.values())
        smallest = fastest / MEASURED_HEADROOM
        raise LimitError(
            f"latency.limits_ms={limit:g}: none of the {len(ranked)} subnets predicted within it measures within it; "
            f"the fastest of them takes {fastest:.4g} ms, which a limit of {smallest:.4g} ms allows",
            smallest,
        )
    best = _best(fitting, judge)
    return best, measured[best]


def _best(finalists: list[Subnet], judge: Judge) -> Subnet:
    quality = judge.final(finalists)
    return finalists[max(range(len(finalists)), key=quality.__getitem__)]
