"""``python -m spaceevo.search_space``: search the space with the best Q-T score over the latency limits."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say

if TYPE_CHECKING:
    from spaceevo.evolution import Evolution, QTScore, Table

TRIED = 500  # spaces, at most, for which it is told whether a limit binds


def run(cfg: Config) -> None:
    """Aging evolution (paper section 4.4), random or exhaustive search guided by the Q-T score (section 4.2)."""
    import pandas as pd

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import QTScore, check_limits, space_edge

    recipe = cfg.search_space
    table, limits = _table(cfg)
    check_limits(table, limits)
    score = QTScore(table, limits, recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting)
    result = search(cfg, score)
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
        subnets=result.space.subnets,
        hyperspace=table.hyperspace.to_dict(),
    )
    write_yaml(output_path(cfg, "space.yaml"), found)
    say(f"search_space: {result.space}, Q-T score {result.score:.3f} at {', '.join(f'{t:.3f}' for t in limits)} ms")
    for limit, bound, share in zip(limits, binds, shares, strict=True):
        if not bound:
            say(
                f"search_space: {limit:g} ms does not bind: {result.space} scores there what it does without a limit (it binds "
                f"for {100 * share:.0f} % of the tried spaces); give a smaller one in latency.limits_ms or .quantiles"
            )
    edge = space_edge(result.space)
    if edge is not None:
        say(f"search_space: {result.space} is {edge}")


def _binding(cfg: Config, table: Table, limits: list[float], result: Evolution) -> tuple[list[bool], list[float]]:
    """For each limit whether it binds for the found space, and for which share of the tried ones (of ``TRIED`` at most)."""
    import numpy as np

    from spaceevo.evolution import QTScore, binding

    recipe = cfg.search_space
    score = QTScore(table, [*limits, math.inf], recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting)
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


def _table(cfg: Config) -> tuple[Table, list[float]]:
    """The accuracy table, the run's own or the one given, and the limits in ms."""
    from spaceevo.evolution import load_table
    from spaceevo.latency.limits import limits_of_table, resolve_limits
    from spaceevo.latency.predictor import Predictor

    hs = hyperspace(cfg)
    if cfg.lut is None:
        predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
        return load_table(input_path(cfg, "lut.parquet"), hs), resolve_limits(cfg.latency, predictor, hs, cfg.seed)
    table = load_table(Path(cfg.lut), hs, cfg.device.name)
    return table, limits_of_table(cfg.latency, table, cfg.seed)


main = entrypoint("search_space", main_of("search_space"))

if __name__ == "__main__":
    main()
