"""``python -m spaceevo.search_space``: search the space with the best Q-T score over the latency limits."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say
from spaceevo.errors import LimitError

if TYPE_CHECKING:
    from spaceevo.evolution import Evolution, QTScore, Table
    from spaceevo.space import SearchSpace

TRIED = 500  # spaces, at most, for which it is told whether a limit binds
SPACES = 200  # that two halves of the table are compared on
FEW_ROWS = 100  # a key, below which a model of all rows tells more than a key's own


def run(cfg: Config) -> None:
    """Aging evolution (paper section 4.4), random or exhaustive search guided by the Q-T score (section 4.2)."""
    import pandas as pd

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import check_limits, space_edge

    tables, limits = tables_of(cfg)
    table = tables.whole
    check_limits(table, limits)
    score = score_of(cfg, table, limits)
    tau = _halves_tau(cfg, tables, limits)
    result = search(cfg, score)
    _check_reachable(score, result.space, min(limits))
    per_limit = [float(q) for q in score.per_limit(result.space)]
    rows = [
        dict(birth=i.birth, parent=i.parent, mutation=i.mutation, space=str(i.space), score=i.score)
        | {f"q_{n}": float(q) for n, q in enumerate(i.per_limit)}
        for i in result.history
    ]
    write_parquet(output_path(cfg, "search_space.parquet"), pd.DataFrame(rows), {"limits_ms": limits})
    binds, shares = _binding(cfg, table, limits, result)
    found = dict(
        space=str(result.space),
        score=float(result.score),
        per_limit=per_limit,
        limits_ms=limits,
        limits_bind=binds,
        limits_bind_share=shares,
        halves_tau=tau,
        subnets=result.space.subnets,
        hyperspace=table.hyperspace.to_dict(),
    )
    write_yaml(output_path(cfg, "space.yaml"), found)
    say(f"search_space: {result.space}, Q-T score {result.score:.3f} at {', '.join(f'{t:.3f}' for t in limits)} ms")
    if tau is not None:
        say(f"search_space: two halves of the table order {SPACES} random spaces alike to a Kendall's tau of {tau:.3f}")
    for limit, bound, share in zip(limits, binds, shares, strict=True):
        if not bound:
            say(
                f"search_space: {limit:g} ms does not bind: {result.space} scores there what it does without a limit (it binds "
                f"for {100 * share:.0f} % of the tried spaces); give a smaller one in latency.limits_ms or .quantiles"
            )
    edge = space_edge(result.space)
    if edge is not None:
        say(f"search_space: {result.space} is {edge}")


def _check_reachable(score: QTScore, best: SearchSpace, limit: float) -> None:
    """Raises:
    LimitError: not even the ``best`` space has a subnet within the least ``limit``.
    """
    if score.fastest is None:
        return
    smallest = limit * score.fastest(best) / min(score.limits_ms)
    if smallest > limit:
        raise LimitError(
            f"latency.limits_ms={limit:g}: below the fastest subnet of every space tried; {best} has one for {smallest:.4g} ms",
            smallest,
        )


def _binding(cfg: Config, table: Table, limits: list[float], result: Evolution) -> tuple[list[bool], list[float]]:
    """For each limit whether it binds for the found space, and for which share of the tried ones (of ``TRIED`` at most)."""
    import numpy as np

    from spaceevo.evolution import QTScore, binding

    recipe = cfg.search_space
    score = QTScore(
        table, [*_predicted(cfg, limits), math.inf], recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting
    )
    tried = list(dict.fromkeys(individual.space for individual in result.history))
    found, *others = binding(score, [result.space, *tried[:: -(-len(tried) // TRIED)]])
    return found.tolist(), np.mean(others, axis=0).tolist()


def search(cfg: Config, score: QTScore) -> Evolution:
    """The search that ``search_space.search`` names, from where a killed one stopped."""
    from tqdm import tqdm

    from spaceevo.evolution import aging_evolution, exhaustive_search, random_search

    recipe, checkpoint = cfg.search_space, partial(cfg, "search_space") / f"{cfg.search_space.search}.json"
    with tqdm(total=recipe.evaluations, desc="spaces", disable=not cfg.trainer.progress_bar) as bar:

        def show(done: int, total: int = recipe.evaluations) -> None:
            bar.total = total
            bar.update(done - bar.n)

        if recipe.search == "exhaustive":
            bar.set_description("parts of the hyperspace")
            return exhaustive_search(score, cfg.threads or os.cpu_count() or 1, cfg.seed, show, checkpoint)
        free = dict(seed=cfg.seed, progress=show, checkpoint=checkpoint, dimensions=recipe.dimensions, base=recipe.base)
        if recipe.search == "random":
            return random_search(score, recipe.evaluations, **free)  # type: ignore[arg-type]
        return aging_evolution(score, recipe.population, recipe.sample, recipe.evaluations, **free)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Tables:
    """What is searched, and what it would be with each half of the rows alone; none where a key has one row only."""

    whole: Table
    halves: tuple[Table, ...]


def score_of(cfg: Config, table: Table, limits: list[float]) -> QTScore:
    """The Q-T score that ``search_space`` asks for."""
    from spaceevo.evolution import QTScore

    recipe, within = cfg.search_space, _predicted(cfg, limits)
    fastest = _fastest_ms(cfg, min(within)) if cfg.lut is None else None
    return QTScore(table, within, recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting, fastest)


def _fastest_ms(cfg: Config, enough: float) -> Callable[[SearchSpace], float]:
    """The predicted ms of a space's fastest subnet, or of one that takes ``enough`` at most: the search for subnets that comes
    next needs one."""
    from spaceevo.evolution import AdditiveCost, GeneCode
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import Subnet, subnet_graph

    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))

    def ms(space: SearchSpace) -> float:
        smallest = predictor.graph_ms(subnet_graph(Subnet.smallest(space, min(space.hyperspace.resolutions))))
        if smallest <= enough:
            return smallest
        predicted_ms = AdditiveCost(GeneCode(space), predictor.graph_ms, predictor.op_ms)
        return float(predicted_ms(predicted_ms.cheapest())[0])

    return ms


def _predicted(cfg: Config, limits: list[float]) -> list[float]:
    """What the predicted ms of a subnet must keep for each of ``limits``: of a run's own table, whose spaces are searched for
    subnets next, as much less as that search asks for."""
    from spaceevo.latency.limits import HEADROOM

    return limits if cfg.lut is not None else [HEADROOM * limit for limit in limits]


def _halves_tau(cfg: Config, tables: Tables, limits: list[float]) -> float | None:
    """Kendall's tau of random spaces between the halves of the table."""
    import numpy as np

    from spaceevo.evolution.halves import agreement
    from spaceevo.space import SearchSpace

    if not tables.halves:
        return None
    rng = np.random.default_rng([cfg.seed, 0x7A0])
    spaces = [SearchSpace.sample(tables.whole.hyperspace, rng) for _ in range(SPACES)]
    one, other = (score_of(cfg, half, limits) for half in tables.halves)
    return agreement(one, other, spaces)


def tables_of(cfg: Config) -> tuple[Tables, list[float]]:
    """The accuracy table, the run's own or the one given, as it is searched, and the limits in ms.

    Raises:
        UserError: ``search_space.rows=model`` for a given table.
    """
    from spaceevo.errors import bad_value
    from spaceevo.evolution import load_table
    from spaceevo.evolution.dense import DenseRows
    from spaceevo.evolution.halves import halves
    from spaceevo.latency.ends import ends_of
    from spaceevo.latency.limits import limits_of_table, resolve_limits
    from spaceevo.latency.predictor import Predictor

    hs, rows = hyperspace(cfg), cfg.search_space.rows
    if cfg.lut is not None:
        if rows == "model":
            raise bad_value("search_space.rows", rows, "measured with lut=...: the model needs the run's latency predictor")
        table = load_table(Path(cfg.lut), hs, cfg.device.name)
        return Tables(table, halves(table) or ()), limits_of_table(cfg.latency, table, cfg.seed)
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    limits = resolve_limits(cfg.latency, predictor, hs, cfg.seed)
    table = load_table(input_path(cfg, "lut.parquet"), hs)
    parts = [table, *(halves(table) or ())]
    few = len(table.rows or ()) < FEW_ROWS * len(table.nsr)
    if rows == "model" or (rows == "auto" and few):
        dense = DenseRows(table, predictor.op_ms, ends_of(predictor, hs))
        parts = [dense.table(part.rows) for part in parts if part.rows is not None]
    return Tables(parts[0], tuple(parts[1:])), limits


main = entrypoint("search_space", main_of("search_space"))

if __name__ == "__main__":
    main()
