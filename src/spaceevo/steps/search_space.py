"""``python -m spaceevo.search_space``: search the space with the best Q-T score over the latency limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spaceevo.errors import LimitError, UserError, bad_value
from spaceevo.progress import progress
from spaceevo.provenance import PREDICTOR
from spaceevo.settings import COUNT, setting
from spaceevo.steps.folder import Folder, say, usable_threads
from spaceevo.steps.scoring import SPACES, Scored, halves_tau, predicted, score_of, tables_of, tell_far_off
from spaceevo.steps.step import SPACE, Step
from spaceevo.training.config import TrainerConfig

if TYPE_CHECKING:
    from spaceevo.evolution import Evolution, QTScore, Table
    from spaceevo.space import SearchSpace

TRIED = 500  # spaces, at most, for which it is told whether a limit binds


@dataclass
class SearchSpaceConfig:
    """Q-T score and evolution of search spaces (paper sections 4.2 and 4.4)."""

    search: str = setting("how search spaces are searched", choices=("aging", "random", "exhaustive"))
    mode: str = setting("the Q-T score's top subnets: of sampled ones, or exact, expected", choices=("sampled", "exact"))
    rows: str = setting(
        "what is scored: the measured sub-stages, or many by a smooth model of them; auto: the model for a table of the run's "
        "own with few rows",
        choices=("auto", "model", "measured"),
    )
    fitting: bool = setting("sampled subnets have widths that fit together, stage by stage")
    draws: int = setting("subnets of a space that the score is of", most=COUNT)
    top: int = setting("the best of them within a limit, whose mean quality is the score", most=COUNT)
    population: int = setting("spaces that are alive", most=COUNT)
    sample: int = setting("spaces of them, the best of which is the next parent", most=COUNT)
    evaluations: int = setting("spaces that are scored in all", most=100 * COUNT)
    dimensions: str = setting(
        "what is searched (Table 2): block types, widths or both; the rest is the base's", choices=("both", "op", "width")
    )
    base: str | None = setting("the space that keeps what is not searched")

    def check(self) -> None:
        """Raises:
        UserError: keys that do not go together.
        """
        if self.sample > self.population:
            raise bad_value("search_space.sample", self.sample, f"at most search_space.population={self.population}")
        if self.top > self.draws:
            raise bad_value("search_space.top", self.top, f"at most search_space.draws={self.draws}")
        if self.search == "exhaustive" and self.dimensions != "both":
            raise UserError("search_space.search=exhaustive: needs search_space.dimensions=both")
        if self.fitting and (self.mode == "exact" or self.search == "exhaustive"):
            raise UserError(
                "search_space.fitting=true: needs search_space.mode=sampled and search_space.search=aging or random"
            )
        if self.dimensions != "both" and self.base is None:
            raise UserError(
                f"search_space.dimensions={self.dimensions}: needs search_space.base=<the space that keeps the rest>"
            )


class Needs(Scored, Protocol):
    """What it reads of the config."""

    trainer: TrainerConfig
    search_space: SearchSpaceConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Aging evolution (paper section 4.4), random or exhaustive search guided by the Q-T score (section 4.2)."""
    import pandas as pd

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import check_limits, space_edge

    tables, limits = tables_of(folder, cfg)
    table = tables.whole
    check_limits(table, limits)
    tell_far_off("search_space", limits, table.slowest_ms())
    score = score_of(cfg, tables, limits)
    tau = halves_tau(cfg, tables, limits)
    result = search(folder, cfg, score)
    _check_reachable(score, result.space, min(limits))
    per_limit = [float(q) for q in score.per_limit(result.space)]
    rows = [
        dict(birth=i.birth, parent=i.parent, mutation=i.mutation, space=str(i.space), score=i.score)
        | {f"q_{n}": float(q) for n, q in enumerate(i.per_limit)}
        for i in result.history
    ]
    write_parquet(folder.output("search_space.parquet"), pd.DataFrame(rows), {"limits_ms": limits})
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
    write_yaml(folder.output("space.yaml"), found)
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


def _binding(cfg: Needs, table: Table, limits: list[float], result: Evolution) -> tuple[list[bool], list[float]]:
    """For each limit whether it binds for the found space, and for which share of the tried ones (of ``TRIED`` at most)."""
    import numpy as np

    from spaceevo.evolution import QTScore, binding

    recipe = cfg.search_space
    score = QTScore(table, [*predicted(cfg, limits), math.inf], recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting)
    tried = list(dict.fromkeys(individual.space for individual in result.history))
    found, *others = binding(score, [result.space, *tried[:: -(-len(tried) // TRIED)]])
    return found.tolist(), np.mean(others, axis=0).tolist()


def search(folder: Folder, cfg: Needs, score: QTScore) -> Evolution:
    """The search that ``search_space.search`` names, from where a killed one stopped."""

    from spaceevo.evolution import aging_evolution, exhaustive_search, random_search

    recipe, checkpoint = cfg.search_space, folder.partial / f"{cfg.search_space.search}.json"
    with progress(total=recipe.evaluations, desc="spaces", show=cfg.trainer.progress_bar) as bar:

        def show(done: int, total: int = recipe.evaluations) -> None:
            bar.total = total
            bar.update(done - bar.n)

        if recipe.search == "exhaustive":
            bar.set_description("parts of the hyperspace")
            return exhaustive_search(score, usable_threads(cfg.threads), cfg.seed, show, checkpoint)
        free = dict(seed=cfg.seed, progress=show, checkpoint=checkpoint, dimensions=recipe.dimensions, base=recipe.base)
        if recipe.search == "random":
            return random_search(score, recipe.evaluations, **free)  # type: ignore[arg-type]
        return aging_evolution(score, recipe.population, recipe.sample, recipe.evaluations, **free)  # type: ignore[arg-type]


STEP = Step(
    "search_space",
    "search_space",
    "evolves the search space with the best Q-T score over the latency limits",
    (*SPACE, "device", "latency", "search_space"),
    ("lut.parquet", PREDICTOR),
    ("space.yaml", "search_space.parquet"),
    run,
    needs_latency=True,
    version=4,
    takes=("lut",),
    examples=(
        "latency.limits_ms=[0.3,0.5,0.8]",
        "-m seed=0,1,2",
        "lut=block_lut/onnxw hyperspace=onnxw device=intel_vnni latency=paper_cpu",
        "search=exhaustive",
        "search_space.dimensions=op search_space.base=demo-000-111",
    ),
)
