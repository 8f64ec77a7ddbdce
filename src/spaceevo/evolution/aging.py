"""Aging evolution over search spaces (paper section 4.4; Real et al., AAAI 2019)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.evolution.qt_score import QTScore
from spaceevo.evolution.table import as_space
from spaceevo.space import SearchSpace

CHECKPOINT_EVERY = 500
PARENTS = 16  # drawn an iteration, at most, until both children are new
STEPS = 20  # further mutations of a child that is known, at most
#: What is searched (Table 2), and the mutations that do: block types, width windows, or both in turn.
DIMENSIONS = {"both": ("type", "width"), "op": ("type",), "width": ("width",)}
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
    """A search under way: what it takes to go on. ``base``: the space whose types or windows stay."""

    score: QTScore
    rng: np.random.Generator
    dimensions: str = "both"
    base: SearchSpace | None = None
    history: list[Individual] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    known: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def add(self, space: SearchSpace, parent: int, mutation: str) -> None:
        """Evaluate a space (once) and let it join the population."""
        text = str(space)
        if text not in self.known:
            self.known[text] = tuple(float(q) for q in self.score.per_limit(space))
        qualities = self.known[text]
        individual = Individual(len(self.history), parent, mutation, text, float(sum(qualities)), qualities)
        self.history.append(individual)
        self.scores.append(individual.score)

    def random(self) -> SearchSpace:
        """A random space in the dimensions that are searched."""
        space = SearchSpace.sample(self.score.table.hyperspace, self.rng)
        if self.base is None:
            return space
        return replace(space, windows=self.base.windows) if self.dimensions == "op" else replace(space, types=self.base.types)

    def result(self) -> Evolution:
        best = max(self.history, key=lambda individual: individual.score)
        return Evolution(SearchSpace.parse(best.space, self.score.table.hyperspace), best.score, self.history)

    def save(self, path: Path) -> None:
        rows = [list(vars(individual).values()) for individual in self.history]
        state: dict[str, Any] = {"rng": self.rng.bit_generator.state, "history": rows}
        atomic_write(path, json.dumps(state))

    def restore(self, path: Path) -> None:
        state = json.loads(path.read_text())
        self.rng.bit_generator.state = state["rng"]
        self.history = [Individual(*[*row[:5], tuple(row[5])]) for row in state["history"]]
        self.scores = [individual.score for individual in self.history]
        self.known = {individual.space: individual.per_limit for individual in self.history}


def aging_evolution(
    score: QTScore,
    population: int = 500,
    sample: int = 125,
    evaluations: int = 5000,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    dimensions: str = "both",
    base: SearchSpace | str | None = None,
) -> Evolution:
    """Search ``evaluations`` spaces of the score's hyperspace for the highest Q-T score.

    ``population`` random spaces first; then, each iteration, the best of ``sample`` random members has two children,
    one with another block type and one with another width window in a random stage; both join, the two oldest leave.
    Where a child was tried before, another parent is drawn, a few times; then the child is mutated on, so that the
    search does not fill up with what it knows (the release means to skip duplicates, and does not). What is known all
    the same is not evaluated again. With ``dimensions`` ``op`` or ``width``
    there is one child an iteration, and all spaces keep the width windows or the block types of ``base``. With
    ``checkpoint`` the search goes on from that file where it exists, to the result of an undisturbed one.

    Raises:
        UserError: a population, sample or number of evaluations that cannot be; one dimension without a ``base``.
    """
    if not 1 <= sample <= population:
        raise bad_value("search_space.sample", sample, f"from 1 to population={population}")
    if evaluations < 1:
        raise bad_value("search_space.evaluations", evaluations, "1 or more")
    if dimensions not in DIMENSIONS:
        raise bad_choice("search_space.dimensions", dimensions, DIMENSIONS)
    if dimensions != "both" and base is None:
        raise UserError(f"search_space.dimensions={dimensions}: needs search_space.base=<the space that keeps the rest>")
    fixed = None if base is None or dimensions == "both" else as_space(base, score.table.hyperspace)
    run = _Run(score, np.random.default_rng(seed), dimensions, fixed)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    saved = len(run.history)
    while len(run.history) < evaluations:
        if len(run.history) < population:
            run.add(run.random(), -1, "random")
        else:
            _iterate(run, population, sample, evaluations)
        if checkpoint is not None and len(run.history) >= saved + CHECKPOINT_EVERY:
            run.save(checkpoint)
            saved = len(run.history)
        if progress is not None:
            progress(len(run.history))
    return run.result()


def _iterate(run: _Run, population: int, sample: int, evaluations: int) -> None:
    alive = np.array(run.scores[-population:])  # as many as join leave, the oldest first
    kinds = DIMENSIONS[run.dimensions][: evaluations - len(run.history)]
    for _ in range(PARENTS):
        candidates = run.rng.choice(population, sample, replace=False)
        parent = run.history[len(run.history) - population + int(candidates[np.argmax(alive[candidates])])]
        space = SearchSpace.parse(parent.space, run.score.table.hyperspace)
        stage = int(run.rng.integers(len(space.types)))
        children = [_mutate(space, kind, stage, run.rng) for kind in kinds]
        if all(str(child) not in run.known for child in children):
            break
    for kind, child in zip(kinds, children, strict=True):
        for _ in range(STEPS):
            if str(child) not in run.known:
                break
            child = _mutate(child, kind, int(run.rng.integers(len(space.types))), run.rng)
        run.add(child, parent.birth, kind)


def _mutate(space: SearchSpace, kind: str, stage: int, rng: np.random.Generator) -> SearchSpace:
    return space.mutate_type(stage, rng) if kind == "type" else space.mutate_width(stage, rng)


def random_search(
    score: QTScore,
    evaluations: int = 5000,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    dimensions: str = "both",
    base: SearchSpace | str | None = None,
) -> Evolution:
    """The baseline: ``evaluations`` random spaces; the arguments are those of ``aging_evolution``."""
    return aging_evolution(score, evaluations, 1, evaluations, seed, progress, checkpoint, dimensions, base)
