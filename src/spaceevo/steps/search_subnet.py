"""``python -m spaceevo.search_subnet``: the best quantized subnet within each latency limit, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spaceevo.errors import bad_value
from spaceevo.progress import progress
from spaceevo.provenance import PREDICTOR, TAU
from spaceevo.settings import COUNT, IMAGES, setting
from spaceevo.steps.asked import asked_subnet, is_encoding
from spaceevo.steps.benchmark import BenchmarkConfig
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, Limited, OnADevice, Seeded, hyperspace
from spaceevo.steps.scoring import tell_far_off
from spaceevo.steps.step import DATA, SPACE, TIMING, Step
from spaceevo.training.config import TimedConfig, TrainerConfig

if TYPE_CHECKING:
    from spaceevo.evolution import AdditiveCost, Archive
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import SearchSpace
    from spaceevo.steps.judges import Judge


@dataclass
class SearchSubnetConfig:
    """Constrained evolution over subnets (section 5)."""

    search: str = setting(
        "how subnets are searched: by evolution, whose children a fit to what was evaluated may choose, or at random",
        choices=("fitted", "evolution", "random"),
    )
    quality: str = setting(
        "what judges them: the supernet's cross entropy on images, or the table's NSR", choices=("supernet", "lut")
    )
    population: int = setting("subnets of a generation, of which each limit has its own", most=COUNT)
    parents: int = setting("the best of a limit's, which have children", most=COUNT)
    generations: int = setting("after the first", least=0, most=COUNT)
    mutate_probability: float = setting("of each choice of a child by mutation to be drawn anew", least=0, below=1)
    validation_images: int = setting(
        "validation images that steer the evolution, the first", most=IMAGES, zero="0 for all that do not judge"
    )
    judge_images: int = setting(
        "validation images that choose nothing and say how good the chosen are, the last; those between choose among finalists",
        most=IMAGES,
        zero="0 for half of them",
    )
    calibration_images: int = setting("training images that a subnet's BatchNorm statistics are taken on", most=IMAGES)
    measure_top: int = setting("finalists of a limit that are measured together", most=COUNT)

    def check(self) -> None:
        """Raises:
        UserError: more parents than there are subnets in a generation.
        """
        if self.parents > self.population:
            raise bad_value("search_subnet.parents", self.parents, f"at most search_subnet.population={self.population}")


class Needs(InASpace, OnADevice, Limited, Seeded, Protocol):
    """What it reads of the config. ``model``: the one subnet to take, a published one's name or an encoding."""

    model: str | None
    trainer: TrainerConfig
    search_subnet: SearchSubnetConfig
    benchmark: BenchmarkConfig

    @property
    def finish(self) -> TimedConfig: ...


def run(folder: Folder, cfg: Needs) -> None:
    """Constrained evolution (paper section 5) for all limits; a limit's best that also measures within it."""

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import hypervolume
    from spaceevo.latency.limits import resolve_limits
    from spaceevo.latency.predictor import Predictor
    from spaceevo.steps.common import start
    from spaceevo.steps.finalists import choose
    from spaceevo.steps.judges import lut_judge, supernet_judge

    start(cfg)
    hs, recipe = hyperspace(cfg), cfg.search_subnet
    predictor = Predictor.load(folder.input(PREDICTOR))
    limits = sorted(resolve_limits(cfg.latency, predictor, hs, cfg.seed))
    total = recipe.population * (recipe.generations * len(limits) + 1)
    with progress(total=total, desc="subnets", show=cfg.trainer.progress_bar) as bar:
        judge = (supernet_judge if recipe.quality == "supernet" else lut_judge)(folder, cfg, hs, bar.update, total, limits)
        predicted_ms = predictor.costs(judge.code)
        _tell_far_off(cfg, judge.space, predictor, limits)
        archive = _evolved(cfg, judge, predicted_ms, limits)
    chosen: list[dict[str, Any]] = []
    names = [cfg.model] if cfg.model is not None and not is_encoding(cfg.model) else model_names(cfg.device.name, limits)
    for name, limit in zip(names, limits, strict=True):
        chosen.append(choose(cfg, name, limit, archive, chosen, judge, predicted_ms))
    frame = _frame(archive, limits, judge, {entry["subnet"] for entry in chosen})
    by_subnet = frame.set_index("subnet")
    for entry in chosen:
        entry |= {key: _value(by_subnet, entry["subnet"], key) for key in ("top1_val", "top1_search", "loss_search", "nsr")}
        _tell(judge, predictor, entry)
    reference = limits[-1], judge.worthless
    columns = "subnet", "predicted_ms", judge.judged, "top1_search", judge.searched
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
        front=front[[column for column in dict.fromkeys(columns) if column in front]].to_dict("records"),
    )
    write_parquet(folder.output("subnets.parquet"), frame, {"limits_ms": limits, "hypervolume": volume})
    write_yaml(folder.output("pareto.yaml"), found)
    say(
        f"search_subnet: {len(archive)} subnets evaluated, {len(front)} on the Pareto front, hypervolume {volume:.5g} "
        f"(reference {reference[0]:g} ms, {judge.judged} {judge.sign * reference[1]:.4g}: {judge.reference})"
    )


def _tell_far_off(cfg: Needs, space: SearchSpace, predictor: Predictor, limits: list[float]) -> None:
    """Where there was a search of the space, it has told."""
    from spaceevo.space import Subnet

    if cfg.space is not None:
        tell_far_off("search_subnet", limits, predictor.subnet_ms(Subnet.largest(space)))


def _evolved(cfg: Needs, judge: Judge, predicted_ms: AdditiveCost, limits: Sequence[float]) -> Archive:
    """What the search evaluates, of subnets whose predicted latency leaves some of a limit for the predictor's errors; of
    ``model=`` that alone."""
    from spaceevo.evolution import Archive, constrained_evolution
    from spaceevo.latency.limits import HEADROOM
    from spaceevo.space import Subnet

    if cfg.model is not None:
        genes = judge.code.encode([asked_subnet(cfg.model, judge.space, limits)])
        return Archive.empty(judge.code).joined(genes, predicted_ms(genes) / HEADROOM, np.array(judge.search(genes)), 0, 0)

    recipe, resolutions = cfg.search_subnet, judge.space.hyperspace.resolutions
    return constrained_evolution(
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
        seeds=[*(Subnet.largest(judge.space, resolution) for resolution in resolutions), *judge.known],
    )


def _tell(judge: Judge, predictor: Predictor, entry: dict[str, Any]) -> None:
    """A chosen subnet, what it is on the edge of, and where it is beyond what the predictor was fitted to."""
    from spaceevo.evolution import subnet_edge
    from spaceevo.latency.parts import extrapolating
    from spaceevo.space import Subnet

    say(f"search_subnet: {_words(entry)}")
    net = Subnet.parse(judge.space, entry["subnet"])
    edge, places = subnet_edge(net, entry["limit_ms"], entry["predicted_ms"]), extrapolating(predictor, net)
    if edge is not None:
        say(f"search_subnet: {entry['limit_ms']:g} ms: {edge}")
    if places is not None:
        say(f"search_subnet: {entry['limit_ms']:g} ms: the predicted latency extrapolates: {places}")


def model_names(device: str, limits: Sequence[float]) -> list[str]:
    """``<device>-<limit>ms`` of different ``limits``: three decimals, or as many as tell them apart."""
    digits = next(n for n in count(3) if len({f"{limit:.{n}f}" for limit in limits}) == len(set(limits)))
    return [f"{device}-{limit:.{digits}f}ms" for limit in limits]


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
            judge.searched: -archive.quality,
            **judge.more(subnets),
            "mmacs": [cost.mmacs for cost in costs],
            "params": [cost.params for cost in costs],
        }
    )
    judged = np.flatnonzero(np.isin(frame.index, archive.front()) | frame.subnet.isin(chosen))
    quality = np.array(judge.judge(archive.subnets(judged)))
    frame.loc[judged, judge.judged] = judge.sign * quality
    frame["front"] = np.isin(frame.index, judged[pareto_front(frame.predicted_ms.to_numpy()[judged], quality)])
    return frame


STEP = Step(
    "search_subnet",
    "search_subnet",
    "finds the most accurate quantized subnet within each latency limit",
    (*DATA, *SPACE, "space", "device", "latency", "search_subnet", "model", "finish.seconds", "finish.epochs", *TIMING),
    ("space.yaml", "qat.ckpt", "lut.parquet", PREDICTOR, TAU),
    ("subnets.parquet", "pareto.yaml"),
    run,
    free=("latency",),
    needs_latency=True,
    version=6,
    examples=("-m latency=tight,loose", "subnet_search=paper search_subnet.quality=lut"),
)
