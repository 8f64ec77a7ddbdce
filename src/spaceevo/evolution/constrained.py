"""Constrained evolution over the subnets of one space (OFA, Cai et al., ICLR 2020; paper section 5), all limits at once.

From the smallest limit up, and all that is evaluated joins one archive: a subnet found for one limit counts for every limit
it keeps, so a larger one begins where the smaller ones ended, and the archive's Pareto front is one curve over all of them.
(Generations of all limits in turn, each from random subnets, end 0.7 % of hypervolume lower at 16 subnets a generation.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spaceevo.errors import LimitError, bad_choice
from spaceevo.evolution.genes import GeneCode, Genes
from spaceevo.evolution.pareto import pareto_front
from spaceevo.evolution.quality_fit import QualityFit
from spaceevo.space import Subnet

SCREENED = 16  # children proposed for one that is evaluated, where a fit to all that was evaluated chooses among them
TRIES = 200  # proposals a wanted subnet before settling for fewer
BATCH = 4096  # proposals at once, at most
SEARCHES = ("fitted", "evolution", "random")
Measure = Callable[[Genes], np.ndarray | Sequence[float]]
Propose = Callable[[int], Genes]


@dataclass(frozen=True)
class Archive:
    """Every evaluated subnet in order: ``genes`` ``[N, genes]``, ``cost``, ``quality``, the ``generation`` it was born in
    and the index of the ``limit`` it was born for, ``[N]`` each."""

    code: GeneCode
    genes: Genes
    cost: np.ndarray
    quality: np.ndarray
    generation: np.ndarray
    limit: np.ndarray

    @staticmethod
    def empty(code: GeneCode) -> Archive:
        """Nothing evaluated yet."""
        none = np.zeros(0)
        return Archive(code, code.encode([]), none, none, none.astype(int), none.astype(int))

    def __len__(self) -> int:
        return len(self.genes)

    def subnets(self, rows: Sequence[int] | np.ndarray) -> list[Subnet]:
        """The subnets of some rows."""
        return self.code.decode(self.genes[np.asarray(rows, int)])

    def ranked(self, limit: float) -> np.ndarray:
        """The rows that cost at most ``limit``, best first, of equals the older."""
        within = np.flatnonzero(self.cost <= limit)
        return within[np.argsort(-self.quality[within], kind="stable")]

    def front(self) -> list[int]:
        """The rows of the Pareto front, by rising cost."""
        return pareto_front(self.cost, self.quality)

    def joined(self, genes: Genes, cost: np.ndarray, quality: np.ndarray, generation: int, limit: int) -> Archive:
        """The archive with more rows at its end."""
        born, owner = np.full(len(genes), generation), np.full(len(genes), limit)
        mine = (self.genes, self.cost, self.quality, self.generation, self.limit)
        return Archive(self.code, *map(np.concatenate, zip(mine, (genes, cost, quality, born, owner), strict=True)))


def constrained_evolution(
    code: GeneCode,
    cost: Measure,
    limits: Sequence[float],
    quality: Measure,
    *,
    population: int,
    parents: int,
    generations: int,
    mutate_probability: float,
    seed: int,
    cheapest: Genes,
    search: str = "evolution",
    seeds: Sequence[Subnet] = (),
) -> Archive:
    """Everything evaluated in the search for the best ``quality`` at a ``cost`` of at most each of ``limits``.

    ``cheapest``: the subnet of the least cost of all, ``[1, genes]`` (``AdditiveCost.cheapest``): it tells whether a limit can
    be kept at all. A limit begins with those of it, of ``seeds`` and of all earlier subnets that keep it, and random ones
    where those are fewer than ``population``; then come ``generations`` of ``population`` children of its ``parents`` best,
    half by mutation and half by crossover; with ``search="fitted"`` they are those of ``SCREENED`` times as many that a fit to
    all that was evaluated puts first, and with ``"random"`` they are random too. ``quality`` is asked for a whole
    generation at once and never twice for a subnet. Equal input, equal result.

    Raises:
        LimitError: even the cheapest subnet costs more than a limit (names what can be reached).
        UserError: an unknown ``search``.
    """
    if search not in SEARCHES:
        raise bad_choice("search_subnet.search", search, SEARCHES)
    limits = sorted(limits)
    _check_limits(code, float(np.asarray(cost(cheapest))[0]), limits)
    run = _Run(cost, mutate_probability, np.random.default_rng(seed))
    given = np.concatenate([code.encode(seeds), cheapest])
    archive = Archive.empty(code)
    for index, limit in enumerate(limits):
        for generation in range(generations + 1):
            ranked = archive.ranked(limit)
            if generation == 0:
                genes = run.beginners(code, given, limit, population - len(ranked))
            else:
                genes = run.born(search, archive, ranked[:parents], limit, population)
            if len(genes):
                scores = np.asarray(quality(genes), float)
                archive = archive.joined(genes, np.asarray(cost(genes), float), scores, generation, index)
    return archive


class _Run:
    """A search under way: its luck, and what it has evaluated."""

    def __init__(self, cost: Measure, mutate_probability: float, rng: np.random.Generator) -> None:
        self.cost, self.probability, self.rng = cost, mutate_probability, rng
        self.seen: set[bytes] = set()

    def accepted(self, propose: Propose, limit: float, count: int) -> Genes:
        """``count`` new subnets within ``limit``, or as many as a bounded number of proposals gives."""
        found: list[Genes] = []
        batch, tried = 4 * count, 0
        empty = propose(0)
        while len(found) < count and tried < TRIES * count:
            genes = propose(batch)
            tried += len(genes)
            found += self._new(genes[np.asarray(self.cost(genes)) <= limit], count - len(found))
            batch = min(2 * batch, BATCH)
        return np.concatenate([empty, *found])

    def beginners(self, code: GeneCode, given: Genes, limit: float, count: int) -> Genes:
        """Those of ``given`` within the limit; up to ``count``, random ones and mutants of both where too few of them fit."""
        within = given[np.asarray(self.cost(given)) <= limit]
        first = np.concatenate([given[:0], *self._new(within, len(within))])
        have = np.concatenate([first, self.accepted(lambda n: code.sample(n, self.rng), limit, count - len(first))])
        roots = have if len(have) else within
        return np.concatenate([have, self.accepted(lambda n: self._mutants(code, roots, n), limit, count - len(have))])

    def children(self, code: GeneCode, best: Genes, limit: float, count: int) -> Genes:
        """Half mutants, half crossings of ``best``; more mutants where few of its crossings are new."""

        def crossings(n: int) -> Genes:
            return code.crossover(self._any(best, n), self._any(best, n), self.rng)

        pairs = self.accepted(crossings, limit, count - count // 2)
        mutants = self.accepted(lambda n: self._mutants(code, best, n), limit, count - len(pairs))
        return np.concatenate([mutants, pairs])

    def born(self, search: str, archive: Archive, parents: np.ndarray, limit: float, count: int) -> Genes:
        """A generation after the first, of the ``parents``, rows of the archive."""
        if search == "random":
            return self.accepted(lambda n: archive.code.sample(n, self.rng), limit, count)
        if search == "fitted":
            return self.chosen(archive, parents, limit, count)
        return self.children(archive.code, archive.genes[parents], limit, count)

    def chosen(self, archive: Archive, parents: np.ndarray, limit: float, count: int) -> Genes:
        """Of many children those that a fit to the archive puts first; the others may be proposed again."""
        genes = self.children(archive.code, archive.genes[parents], limit, SCREENED * count)
        if len(genes) <= count:
            return genes
        order = np.argsort(-QualityFit(archive.code, archive.genes, archive.quality)(genes), kind="stable")
        self.seen -= {row.tobytes() for row in genes[order[count:]]}
        return genes[order[:count]]

    def _mutants(self, code: GeneCode, roots: Genes, count: int) -> Genes:
        return code.mutate(self._any(roots, count), self.probability, self.rng)

    def _any(self, genes: Genes, count: int) -> Genes:
        return genes[self.rng.integers(len(genes), size=count)]

    def _new(self, genes: Genes, count: int) -> list[Genes]:
        """The first ``count`` rows that were not seen before, as ``[1, genes]`` each."""
        found: list[Genes] = []
        for row in genes:
            if len(found) == count:
                break
            key = row.tobytes()
            if key not in self.seen:
                self.seen.add(key)
                found.append(row[None])
        return found


def _check_limits(code: GeneCode, least: float, limits: Sequence[float]) -> None:
    """``least``: what the cheapest subnet of all costs, ms."""
    for limit in limits:
        if least > limit:
            raise LimitError(
                f"latency.limits_ms={limit:g}: below the fastest subnet of {code.space}; "
                f"the smallest reachable is {least:.4g} ms",
                least,
            )
