"""The best of all search spaces under the Q-T score: branch and bound over the stages.

A node has chosen some stages and sums their draws; a draw's sums with the least NSR and ms that any choice of the other
stages gives it are optimistic. The top-tier means of those bound the sampled score of every space below the node: it is
left out if even they do not reach the bar. Draws that are too slow for every limit, or worse than ``WORTH`` over the
20th best of the best space known, are dropped on the way down; they are counted as that good, which keeps the bound one.

In the sampled mode the bar is the best score known, and what is found is proven to be the best of all. In the exact mode
the bar is ``UNLUCKY`` standard deviations of a sampled score below the best exact score known; whatever reaches it is
scored exactly. A better space is missed only if ``ROUNDS`` independent sets of draws are each that unlucky for it, or
if none of them has a draw within a limit that luck decides.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.evolution.aging import Evolution, Individual, aging_evolution
from spaceevo.evolution.draws import choices_of
from spaceevo.evolution.qt_score import QTScore
from spaceevo.space import SearchSpace

WORTH = 0.04  # NSR, above the worst that the best space known keeps
PREFIX = 2  # stages whose choices make one task
ROUNDS = 3  # sets of draws under which spaces are looked for, in the exact mode
UNLUCKY = 4.0  # standard deviations; thrice that, by a normal distribution: 3e-14
SPREAD = 40  # sets of draws that tell a sampled score's standard deviation
Progress = Callable[[int, int], object]
Choice = tuple[int, ...]


def exhaustive_search(
    score: QTScore,
    threads: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Evolution:
    """The space of the highest score of all in the score's hyperspace; of equals, the first.

    ``seed``: of the evolution that finds a good space first, and of the exact mode's draws. ``progress(done, all)``
    counts tasks. With ``checkpoint`` a search that was stopped goes on from that file.

    Raises:
        UserError: a fitting score; the bounds are over draws that every stage adds to alone.
    """
    if score.fitting:
        raise UserError("search_space.search=exhaustive: needs search_space.fitting=false")
    search = _Search(score, seed, checkpoint)
    todo = [task for task in search.tasks if task not in search.done]
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(search.run, todo), len(search.tasks) - len(todo) + 1):
            if progress is not None:
                progress(done, len(search.tasks))
    quality = score.per_limit(search.best)
    found = Individual(0, -1, "exhaustive", str(search.best), float(quality.sum()), tuple(map(float, quality)))
    return Evolution(search.best, found.score, [found])


class _Search:
    """A search under way; its tasks, a set of draws and the first choices under it, may run in several threads."""

    def __init__(self, score: QTScore, seed: int, checkpoint: Path | None) -> None:
        self.score, self.checkpoint, self.lock = score, checkpoint, Lock()
        self.best = aging_evolution(score, seed=seed).space
        self.value = score(self.best)
        self.exact = score.mode == "exact"
        sampled = [_sampled(score, seed + i) for i in range(ROUNDS)] if self.exact else [score]
        margin = UNLUCKY * _deviation(score, self.best, seed) if self.exact else 0.0
        self.bar = self.value - margin
        self.trees = [_Tree(each, self.best, WORTH + margin) for each in sampled]
        self.tasks = [(i, *head) for i, tree in enumerate(self.trees) for head in tree.heads]
        self.done: set[Choice] = set()
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)

    def run(self, task: Choice) -> None:
        climb = not self.exact and self.score.fastest is None  # else what raises the bar may have no subnet within the limits
        found = self.trees[task[0]].reaching(task[1:], self.bar if self.exact else self.value, climb)
        with self.lock:
            for space in found:
                value = self.score(space)
                if (-value, str(space)) < (-self.value, str(self.best)):
                    self.best, self.value = space, value
            self.done.add(task)
            if self.checkpoint is not None:
                self._save(self.checkpoint)

    def _save(self, path: Path) -> None:
        done = [list(map(int, task)) for task in sorted(self.done)]
        atomic_write(path, json.dumps({"best": str(self.best), "done": done}))

    def _restore(self, path: Path) -> None:
        state = json.loads(path.read_text())
        self.done = {tuple(task) for task in state["done"]}
        self.best = max((self.best, SearchSpace.parse(state["best"], self.score.table.hyperspace)), key=self.score)
        self.value = self.score(self.best)


class _Tree:
    """All spaces under one set of draws, and the bounds on what is below a node."""

    def __init__(self, score: QTScore, known: SearchSpace, worth: float) -> None:
        self.score = score
        draws = score.draws
        self.choices = choices_of(score.table)
        begins = draws.stage_choices
        slack = [float((draws.nsr[a:b].mean(0) - draws.nsr[a:b].min(0)).mean()) for a, b in itertools.pairwise(begins)]
        self.order = np.argsort(slack)[::-1]  # what bounds least is chosen first
        self.begins, self.ends = begins[self.order], begins[self.order + 1]
        zero = np.zeros((1, draws.nsr.shape[1]), np.float32)
        least = [
            np.array([part[a:b].min(0) for a, b in zip(self.begins, self.ends, strict=True)]) for part in (draws.nsr, draws.ms)
        ]
        slowest = np.array([draws.ms[a:b].max(0) for a, b in zip(self.begins, self.ends, strict=True)])
        self.rest_nsr, self.rest_ms, self.slow_ms = (
            np.concatenate([np.cumsum(part[::-1], 0)[::-1], zero]) for part in (*least, slowest)
        )
        self.heads = list(
            itertools.product(*(range(a, b) for a, b in zip(self.begins[:PREFIX], self.ends[:PREFIX], strict=True)))
        )
        self.enough = _kept(score, known) + np.float32(worth)

    def reaching(self, head: Choice, bar: float, climb: bool) -> list[SearchSpace]:
        """The spaces that begin with ``head`` and score ``bar`` at least; with ``climb``, those that raise it."""
        from spaceevo.evolution.kernels_bound import branch

        found = branch(
            np.array(head), self.begins, self.ends, self.order, self.rest_nsr, self.rest_ms, self.slow_ms, self.enough,
            bar, climb, *self.score._known, *self.score._rows,
        )  # fmt: skip
        return [self._space(choice) for choice in found]

    def _space(self, choice: np.ndarray) -> SearchSpace:
        picked = [self.choices[c] for _, c in sorted(zip(self.order, choice, strict=True))]
        return SearchSpace(self.score.table.hyperspace, tuple(t for _, t, _ in picked), tuple(w for _, _, w in picked))


def _kept(score: QTScore, space: SearchSpace) -> np.ndarray:
    """The worst NSR that ``space`` keeps within each limit (rising) ``[limits]``, falling."""
    from spaceevo.evolution.kernels import WITHIN, select

    nsr, ms, fixed, limits, top, worst = score._known
    chosen = score.draws.chosen(space)
    best, kept, _ = select(chosen, nsr, ms, fixed, (limits * WITHIN).astype(np.float32), top)
    last = [nsr[chosen, best[i, kept[i] - 1]].sum() if kept[i] == top else worst for i in range(len(limits))]
    return np.maximum.accumulate(np.array(last, np.float32)[::-1])[::-1]


def _sampled(exact: QTScore, seed: int) -> QTScore:
    return QTScore(exact.table, exact.limits_ms, exact.draw_count, exact.top, seed)


def _deviation(exact: QTScore, space: SearchSpace, seed: int) -> float:
    """The standard deviation of sampled scores of ``space``, from their middle four fifths."""
    low, high = np.quantile([_sampled(exact, seed + ROUNDS + i)(space) for i in range(SPREAD)], (0.1, 0.9))
    return float(high - low) / 2.563  # of a normal distribution
