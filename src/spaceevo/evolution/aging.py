"""Aging evolution over search spaces (paper section 4.4; Real et al., AAAI 2019)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.atomic import write_json
from spaceevo.errors import bad_value
from spaceevo.evolution.qt_score import QTScore
from spaceevo.space import Hyperspace, SearchSpace

CHECKPOINT_EVERY = 500
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Individual:
    """One search space that was tried. ``mutation``: random, type or width; ``parent``: a birth, -1 for none."""

    birth: int
    parent: int
    mutation: str
    space: str
    score: float
    per_limit: tuple[float, ...]


@dataclass(frozen=True)
class Evolution:
    """The best space ever seen, its score, and everything tried in order of birth."""

    space: SearchSpace
    score: float
    history: list[Individual]


@dataclass
class _Run:
    """A search under way: what it takes to go on."""

    score: QTScore
    rng: np.random.Generator
    history: list[Individual] = field(default_factory=list)
    population: deque[int] = field(default_factory=deque)
    known: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def add(self, space: SearchSpace, parent: int, mutation: str) -> None:
        """Evaluate a space (once) and let it join the population."""
        text = str(space)
        if text not in self.known:
            self.known[text] = tuple(float(q) for q in self.score.per_limit(space))
        qualities = self.known[text]
        birth = len(self.history)
        self.history.append(Individual(birth, parent, mutation, text, float(sum(qualities)), qualities))
        self.population.append(birth)

    def result(self, hyperspace: Hyperspace) -> Evolution:
        best = max(self.history, key=lambda individual: individual.score)
        return Evolution(SearchSpace.parse(best.space, hyperspace), best.score, self.history)

    def save(self, path: Path) -> None:
        rows = [list(vars(individual).values()) for individual in self.history]
        state: dict[str, Any] = {"rng": self.rng.bit_generator.state, "population": list(self.population), "history": rows}
        write_json(path, state)

    def restore(self, path: Path) -> None:
        state = json.loads(path.read_text())
        self.rng.bit_generator.state = state["rng"]
        self.population = deque(state["population"])
        self.history = [Individual(*[*row[:5], tuple(row[5])]) for row in state["history"]]
        self.known = {individual.space: individual.per_limit for individual in self.history}


def aging_evolution(
    score: QTScore,
    hyperspace: Hyperspace,
    population: int = 500,
    sample: int = 125,
    evaluations: int = 5000,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Evolution:
    """Search ``evaluations`` spaces for the highest Q-T score.

    ``population`` random spaces first; then, each iteration, the best of ``sample`` random members has two children,
    one with another block type and one with another width window in a random stage; both join, the two oldest leave.
    With ``checkpoint`` the search goes on from that file where it exists, to the result of an undisturbed one.

    Raises:
        UserError: a population, sample or number of evaluations that cannot be.
    """
    if not 1 <= sample <= population:
        raise bad_value("search_space.sample", sample, f"from 1 to population={population}")
    if evaluations < 1:
        raise bad_value("search_space.evaluations", evaluations, "1 or more")
    run = _Run(score, np.random.default_rng(seed))
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    while len(run.history) < evaluations:
        if len(run.history) < population:
            run.add(SearchSpace.sample(hyperspace, run.rng), -1, "random")
        else:
            _iterate(run, hyperspace, sample, evaluations)
        if checkpoint is not None and len(run.history) % CHECKPOINT_EVERY < 2:
            run.save(checkpoint)
        if progress is not None:
            progress(len(run.history))
    return run.result(hyperspace)


def _iterate(run: _Run, sample: int, evaluations: int) -> None:
    kinds = DIMENSIONS[run.dimensions][: evaluations - len(run.history)]
    for _ in range(TRIES):
        candidates = run.rng.choice(len(run.population), sample, replace=False)
        parent = max((run.history[run.population[int(i)]] for i in candidates), key=lambda individual: individual.score)
        space = SearchSpace.parse(parent.space, run.score.table.hyperspace)
        stage = int(run.rng.integers(len(space.types)))
        children = [_mutate(space, kind, stage, run.rng) for kind in kinds]
        if all(str(child) not in run.known for child in children):
            break
    for kind, child in zip(kinds, children, strict=True):
        for _ in range(TRIES):
            if str(child) not in run.known:
                break
            child = _mutate(child, kind, int(run.rng.integers(len(space.types))), run.rng)
        run.add(child, parent.birth, kind)
        run.population.popleft()


def _mutate(space: SearchSpace, kind: str, stage: int, rng: np.random.Generator) -> SearchSpace:
    return space.mutate_type(stage, rng) if kind == "type" else space.mutate_width(stage, rng)


def random_search(score: QTScore, hyperspace: Hyperspace, evaluations: int = 5000, seed: int = 0) -> Evolution:
    """The baseline: ``evaluations`` random spaces."""
    return aging_evolution(score, hyperspace, population=evaluations, sample=1, evaluations=evaluations, seed=seed)
