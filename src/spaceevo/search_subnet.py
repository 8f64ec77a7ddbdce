"""``python -m spaceevo.search_subnet``: the best quantized subnet within each latency limit, and the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, say
from spaceevo.errors import LimitError

if TYPE_CHECKING:
    from spaceevo.evolution import Archive
    from spaceevo.space import Subnet
    from spaceevo.training.judges import Judge

MEASURED_HEADROOM = 0.98  # of a limit that a measured latency keeps: the export measures again
MEASURED_GROUPS = 20  # groups of finalists measured for a limit before giving up


def run(cfg: Config) -> None:
    """Constrained evolution (paper section 5) for all limits; a limit's best that also measures within it."""
    from tqdm import tqdm

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import AdditiveCost, constrained_evolution, hypervolume, subnet_edge
    from spaceevo.latency.limits import HEADROOM, resolve_limits
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import Subnet
    from spaceevo.training.judges import lut_judge, supernet_judge
    from spaceevo.training.recipes import start

    start(cfg)
    hs, recipe = hyperspace(cfg), cfg.search_subnet
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    limits = sorted(resolve_limits(cfg.latency, predictor, hs, cfg.seed))
    total = recipe.population * (recipe.generations * len(limits) + 1)
    with tqdm(total=total, desc="subnets", disable=not cfg.trainer.progress_bar) as bar:
        judge = (supernet_judge if recipe.quality == "supernet" else lut_judge)(cfg, hs, bar.update, total, limits)
        predicted_ms = AdditiveCost(judge.code, predictor.graph_ms, predictor.op_ms)
        archive = constrained_evolution(
            judge.code,
            lambda genes: predicted_ms(genes) / HEADROOM,
            limits,
            judge.search,
            population=recipe.population,
            parents=recipe.parents,
            generations=recipe.generations,
            mutate_probability=recipe.mutate_probability,
            seed=cfg.seed,
            cheapest=predicted_ms.cheapest(),
            search=recipe.search,
            seeds=[*(Subnet.largest(judge.space, resolution) for resolution in hs.resolutions), *judge.known],
        )
    chosen: list[dict[str, Any]] = []
    for name, limit in zip(model_names(cfg.device.name, limits), limits, strict=True):
        chosen.append(_choose(cfg, name, limit, archive, chosen, judge, predicted_ms))
    frame = _frame(archive, limits, judge, {entry["subnet"] for entry in chosen})
    by_subnet = frame.set_index("subnet")
    for entry in chosen:
        entry |= {key: _value(by_subnet, entry["subnet"], key) for key in ("top1_val", "top1_search", "nsr")}
        say(f"search_subnet: {_words(entry)}")
        edge = subnet_edge(Subnet.parse(judge.space, entry["subnet"]), entry["limit_ms"], entry["predicted_ms"])
        if edge is not None:
            say(f"search_subnet: {entry['limit_ms']:g} ms: {edge}")
    reference = limits[-1], judge.worthless
    front = frame[frame.front].sort_values("predicted_ms")
    volume = hypervolume(front.predicted_ms, judge.sign * front[judge.judged], reference)
    found = dict(
        space=str(judge.space),
        quality=recipe.quality,
        evaluations=len(archive),
        hypervolume=volume,
        reference={"predicted_ms": reference[0], judge.judged: judge.sign * reference[1]},
        reference_is=f"the largest limit and {judge.reference}",
        chosen=chosen,
        front=front[list(dict.fromkeys(["subnet", "predicted_ms", judge.judged, judge.searched]))].to_dict("records"),
    )
    write_parquet(output_path(cfg, "subnets.parquet"), frame, {"limits_ms": limits, "hypervolume": volume})
    write_yaml(output_path(cfg, "pareto.yaml"), found)
    say(
        f"search_subnet: {len(archive)} subnets evaluated, {len(front)} on the Pareto front, hypervolume {volume:.5g} "
        f"(reference {reference[0]:g} ms, {judge.judged} {judge.sign * reference[1]:.4g}: {judge.reference})"
    )


def model_names(device: str, limits: Sequence[float]) -> list[str]:
    """``<device>-<limit>ms`` of different ``limits``: three decimals, or as many as tell them apart."""
    digits = next(n for n in count(3) if len({f"{limit:.{n}f}" for limit in limits}) == len(set(limits)))
    return [f"{device}-{limit:.{digits}f}ms" for limit in limits]


def _choose(
    cfg: Config,
    name: str,
    limit: float,
    archive: Archive,
    smaller: list[dict[str, Any]],
    judge: Judge,
    predicted_ms: Callable,
) -> dict[str, Any]:
    """The entry of ``limit``, as the model ``name``: the best finalist, never worse than those of ``smaller`` limits."""
    from spaceevo.space import Subnet

    winners = [Subnet.parse(judge.space, entry["subnet"]) for entry in smaller]
    few = cfg.search_subnet.measure_top + len(winners)
    rows = archive.ranked(limit)
    order = using_most(archive.quality[rows].tolist(), archive.cost[rows].tolist(), judge.told_by[0])
    ranked = archive.subnets(rows[order[: few * MEASURED_GROUPS]])
    best, measured = _within(cfg, limit, list(dict.fromkeys([*winners, *ranked])), few, judge, predicted_ms)
    ms = float(predicted_ms(judge.code.encode([best]))[0])
    return dict(
        name=name,
        limit_ms=limit,
        subnet=str(best),
        space=str(judge.space),
        top1_finalists=judge.final([best])[0] if judge.judged == "top1_val" else None,
        predicted_ms=ms,
        measured_ms=measured,
    )


def using_most(top1: Sequence[float], ms: Sequence[float], images: int | None) -> list[int]:
    """The order of subnets: the best first; but if the chosen one is trained on alone (``images``: how many ``top1`` in percent
    is of; None: it is not), those within a standard error of the best, which inherited weights do not tell apart, by their
    ``ms``, most first."""
    best = max(top1)
    doubt = 0.0 if images is None else 100 * (best / 100 * (1 - best / 100) / images) ** 0.5
    equal = [images is not None and value >= best - doubt for value in top1]
    keys = [(used if tied else 0.0, value) for used, tied, value in zip(ms, equal, top1, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=True)


def _value(frame: Any, subnet: str, key: str) -> float | None:
    return float(frame[key][subnet]) if key in frame else None


def _words(entry: dict[str, Any]) -> str:
    """A chosen subnet in one line."""
    top1, measured = entry["top1_val"], entry["measured_ms"]
    words = f"predicted NSR sum {entry['nsr']:.4g}" if top1 is None else f"{top1:.2f} % validation top-1"
    timed = "" if measured is None else f", measured {measured:.4f} ms"
    return f"{entry['limit_ms']:g} ms: {words}, predicted {entry['predicted_ms']:.4f} ms{timed}"


def _frame(archive: Archive, limits: list[float], judge: Judge, chosen: set[str]) -> Any:
    """A row a subnet in the order of evaluation; ``limit_ms``: which one it was born for. The search's Pareto front and the
    ``chosen`` are judged; ``front``: which of these no other of them beats."""
    import pandas as pd

    from spaceevo.evolution import pareto_front
    from spaceevo.latency.limits import HEADROOM

    subnets = archive.subnets(np.arange(len(archive)))
    costs = [subnet.cost() for subnet in subnets]
    frame = pd.DataFrame(
        {
            "limit_ms": np.array(limits)[archive.limit],
            "generation": archive.generation,
            "subnet": list(map(str, subnets)),
            "predicted_ms": archive.cost * HEADROOM,
            judge.searched: judge.sign * archive.quality,
            "mmacs": [cost.mmacs for cost in costs],
            "params": [cost.params for cost in costs],
        }
    )
    judged = np.flatnonzero(np.isin(frame.index, archive.front()) | frame.subnet.isin(chosen))
    quality = np.array(judge.judge(archive.subnets(judged)))
    frame.loc[judged, judge.judged] = judge.sign * quality
    frame["front"] = np.isin(frame.index, judged[pareto_front(frame.predicted_ms.to_numpy()[judged], quality)])
    return frame


def _within(
    cfg: Config, limit: float, ranked: list[Subnet], few: int, judge: Judge, predicted_ms: Callable
) -> tuple[Subnet, float | None]:
    """Of the first ``few`` in ``ranked`` that measure within ``limit``, the best by ``judge.final``, and its ms.

    Raises:
        LimitError: none of them all measures within the limit.
    """
    from spaceevo.deploy.timing import timing_writer
    from spaceevo.latency.host import weight_bits
    from spaceevo.latency.measure import latency, measure
    from spaceevo.space import subnet_graph

    if cfg.device.runtime == "none":
        return _best(ranked[:few], judge, predicted_ms), None
    write = timing_writer(weight_bits(cfg.device.weight_bits), cfg.device.padding)
    measured: dict[Subnet, float] = {}
    fitting: list[Subnet] = []
    for start in range(0, len(ranked), few):
        group = ranked[start : start + few]
        models = {str(subnet): write(subnet_graph(subnet))[0] for subnet in group}
        spread_s = cfg.benchmark.spread_s / 4  # the claim is measured at the export
        times = measure(models, cfg.benchmark.rounds, cfg.benchmark.runs, cfg.device.threads, spread_s=spread_s)
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
    best = _best(fitting, judge, predicted_ms)
    return best, measured[best]


def _best(finalists: list[Subnet], judge: Judge, predicted_ms: Callable) -> Subnet:
    ms = predicted_ms(judge.code.encode(finalists)).tolist()
    return finalists[using_most(judge.final(finalists), ms, judge.told_by[1])[0]]


main = entrypoint("search_subnet", main_of("search_subnet"))

if __name__ == "__main__":
    main()
