"""The best of all search spaces under the sampled Q-T score, proven: branch and bound over the stages.

A node has chosen some stages and sums their draws; a draw's sums with the least NSR and ms that any choice of the other
stages gives it are optimistic. The top-tier means of those bound every space below the node: it is left out if even
they do not reach the best score known. Draws that are too slow for every limit, or worse than ``WORTH`` over the 20th
best of the best space known, are dropped on the way down; they are counted as that good, which keeps the bound one.
A space whose bound says that it may win is scored in full.
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
Progress = Callable[[int, int], object]


def exhaustive_search(
    score: QTScore,
    threads: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Evolution:
    """The space of the highest sampled score of all in the score's hyperspace; of equals, the first.

    ``seed``: of the evolution that finds a good space first. ``progress(done, all)`` counts tasks. With ``checkpoint``
    a search that was stopped goes on from that file.

    Raises:
        UserError: a score that is exact or fitting; the bounds are over draws that every stage adds to alone.
    """
    if score.mode != "sampled" or score.fitting:
        raise UserError("search_space.search=exhaustive: needs search_space.mode=sampled and search_space.fitting=false")
    search = _Search(score, seed, checkpoint)
    todo = [task for task in search.tasks if task not in search.done]
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(search.run, todo), len(search.tasks) - len(todo) + 1):
            if progress is not None:
                progress(done, len(search.tasks))
    space = search.space(search.best)
    quality = score.per_limit(space)
    found = Individual(0, -1, "exhaustive", str(space), float(quality.sum()), tuple(map(float, quality)))
    return Evolution(space, found.score, [found])


class _Search:
    """A search under way; its tasks may run in several threads."""

    def __init__(self, score: QTScore, seed: int, checkpoint: Path | None) -> None:
        self.score, self.checkpoint, self.lock = score, checkpoint, Lock()
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
        heads = [range(a, b) for a, b in zip(self.begins[:PREFIX], self.ends[:PREFIX], strict=True)]
        self.tasks = list(itertools.product(*heads))
        self.done: set[tuple[int, ...]] = set()
        start = aging_evolution(score, seed=seed).space
        self.best = tuple(int(c) for c in draws.chosen(start)[self.order])
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        self.value = self._value(self.best)
        self.enough = self._enough()

    def space(self, choice: tuple[int, ...]) -> SearchSpace:
        picked = [self.choices[c] for _, c in sorted(zip(self.order, choice, strict=True))]
        return SearchSpace(self.score.table.hyperspace, tuple(t for _, t, _ in picked), tuple(w for _, _, w in picked))

    def run(self, task: tuple[int, ...]) -> None:
        from spaceevo.evolution.kernels_bound import branch

        found = branch(
            np.array(task), self.begins, self.ends, self.order, self.rest_nsr, self.rest_ms, self.slow_ms, self.enough,
            self.value, np.array(self.best), *self.score._known, *self.score._rows,
        )  # fmt: skip
        with self.lock:
            better = tuple(int(c) for c in found)
            value = self._value(better)
            if (-value, str(self.space(better))) < (-self.value, str(self.space(self.best))):
                self.best, self.value = better, value
            self.done.add(task)
            if self.checkpoint is not None:
                self._save(self.checkpoint)

    def _value(self, choice: tuple[int, ...]) -> float:
        return self.score(self.space(choice))

    def _enough(self) -> np.ndarray:
        """The NSR, per limit, above which draws are dropped ``[limits]``, falling as the limits rise."""
        from spaceevo.evolution.kernels import WITHIN, select

        nsr, ms, fixed, limits, top, worst = self.score._known
        chosen = np.array(self.best)[np.argsort(self.order)]
        best, kept, _ = select(chosen, nsr, ms, fixed, (limits * WITHIN).astype(np.float32), top)
        last = [nsr[chosen, best[i, kept[i] - 1]].sum() if kept[i] == top else worst for i in range(len(limits))]
        return np.maximum.accumulate(np.array(last, np.float32)[::-1])[::-1] + np.float32(WORTH)

    def _save(self, path: Path) -> None:
        done = [list(map(int, task)) for task in sorted(self.done)]
        atomic_write(path, json.dumps({"best": list(self.best), "done": done}))

    def _restore(self, path: Path) -> None:
        state = json.loads(path.read_text())
        self.done = {tuple(task) for task in state["done"]}
        known = tuple(state["best"])
        self.best = max((self.best, known), key=self._value)
