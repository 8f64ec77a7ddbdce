"""``make bench``: the evolution engine on the published tables, beside the plain versions, with its targets."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from evolution.repeats import mean_score
from evolution.tables import LIMITS, PUBLISHED, REFERENCE
from scipy.stats import kendalltau

from spaceevo.evolution import QTScore, Table, aging_evolution, exhaustive_search, load_table, random_search
from spaceevo.space import SearchSpace

SEEDS = range(10)


def seconds(job: Callable[[], object], repeats: int = 5) -> float:
    """The least processor time of ``repeats`` calls after one to compile and warm up."""
    job()
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        job()
        taken.append(time.process_time() - begin)
    return min(taken)


def plain_score(score: QTScore, space: SearchSpace) -> float:
    """Equation 1 with numpy: add up the draws, sort them by NSR, take the first within each limit."""
    draws = score.draws
    chosen = draws.chosen(space)
    nsr, ms = draws.nsr[chosen].sum(0, dtype=float), draws.ms[chosen].sum(0, dtype=float) + draws.fixed
    order = np.argsort(nsr)
    total, ranked = 0.0, ms[order]
    for limit in score.limits_ms:
        best = order[np.flatnonzero(ranked <= limit * (1 + 1e-6))[: score.top]]
        total -= nsr[best].mean() if len(best) else score.table.worst_nsr() * ms.min() / limit
    return total


def loading(name: str) -> Table:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        begin = time.perf_counter()
        table = load_table(PUBLISHED / name, name)
        first = time.perf_counter() - begin
        again = min(seconds(lambda: load_table(PUBLISHED / name, name)) for _ in range(2))
        print(f"{name}: {len(table.nsr)} keys load in {first:.2f} s (target 3), again {again:.3f} s (0.3)", flush=True)
    return table


def scoring(name: str, table: Table, spaces: list[SearchSpace]) -> None:
    few = spaces[:100]
    for draws, top, target in ((5000, 20, 0.1), (100_000, 50, 1.0)):
        score = QTScore(table, LIMITS[name], draws, top)
        assert all(abs(plain_score(score, space) - score(space)) < 1e-4 for space in few[:20])
        ours = 1e3 * seconds(lambda s=score: [s(space) for space in few]) / len(few)
        plain = 1e3 * seconds(lambda s=score: [plain_score(s, space) for space in few[:20]], 3) / 20
        what = f"{name}: Q-T of one space, {draws:,} draws, top {top}, five limits"
        print(f"{what:<66} plain {plain:7.3f} ms   here {ours:.3f} ms (target {target:g})   {plain / ours:.1f}x", flush=True)
    score = QTScore(table, LIMITS[name], mode="exact")
    print(f"{name}: the same, exact: {1e3 * seconds(lambda: [score(space) for space in few]) / len(few):.3f} ms", flush=True)


def noise(name: str, table: Table, spaces: list[SearchSpace]) -> None:
    for mode, draws in (("sampled", 5000), ("sampled", 100_000), ("exact", 5000)):
        scores = [QTScore(table, LIMITS[name], draws, 20 * draws // 5000, seed, mode) for seed in (1, 2)]
        tau = kendalltau(*([score(space) for space in spaces] for score in scores))[0]
        print(f"{name}: Kendall's tau of 300 spaces between two seeds, {mode} {draws:,}: {tau:.4f} (target 0.99)", flush=True)


def exactness(name: str, table: Table, spaces: list[SearchSpace]) -> None:
    """The exact score against repeated sampled ones, of as many repeats as it takes to know their mean to 0.02 %."""
    score = QTScore(table, LIMITS[name], mode="exact")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda space: mean_score(table, space, LIMITS[name], 5000, 20, 2e-4, 250_000), spaces))
    off = max(abs(score(space) / mean - 1) for space, (mean, _, _) in zip(spaces, found, strict=True))
    certain, most = max(error for _, error, _ in found), max(times for _, _, times in found)
    print(
        f"{name}: exact score of {len(spaces)} spaces within {100 * off:.3f} % (target 0.1) of the mean of up to {most:,} "
        f"sampled ones, whose standard error is at most {100 * certain:.3f} %",
        flush=True,
    )


def searching(name: str, table: Table) -> None:
    reference = SearchSpace.parse(REFERENCE[name], table.hyperspace)
    for mode, draws, top in (("sampled", 5000, 20), ("exact", 5000, 20), ("exact", 100_000, 50)):
        score = QTScore(table, LIMITS[name], draws, top, mode=mode)
        begin = time.process_time()
        found = [aging_evolution(score, seed=seed) for seed in SEEDS]
        taken = (time.process_time() - begin) / len(SEEDS)
        best, known = max(f.score for f in found), score(reference)
        near = sum(f.score >= best - 0.005 * abs(best) for f in found)
        space = next(f.space for f in found if f.score == best)
        random = np.mean([random_search(score, seed=seed).score for seed in range(3)])
        what = f"{name}: 5,000 spaces evolved, {mode}, {draws:,} draws, top {top}"
        print(f"{what}: {taken:.2f} s (target 3 sampled); best {space} {best:.4f}", flush=True)
        print(
            f"    within 0.5 % of it: {near} of {len(SEEDS)} seeds; published {known:.4f}: {best - known:.4f} "
            f"({100 * (best - known) / abs(known):.3f} %) below it; random search {random:.4f}",
            flush=True,
        )
        if draws == 100_000:
            (one, e, n), (other, f, _) = (mean_score(table, s, LIMITS[name], draws, top, 0, 4000) for s in (space, reference))
            error = np.hypot(e * one, f * other)
            print(f"    by the mean of {n:,} sampled scores each: {one - other:.4f} +- {error:.4f} below it", flush=True)


def optimum(name: str, table: Table) -> None:
    for mode in ("sampled", "exact"):
        score = QTScore(table, LIMITS[name], mode=mode)
        begin = time.perf_counter()
        found = exhaustive_search(score, threads=2)
        taken = time.perf_counter() - begin
        best = max(aging_evolution(score, seed=seed).score for seed in SEEDS)
        what = f"{name}: the best of {table.hyperspace.spaces:,} spaces, {mode}, in {taken:.1f} s on two cores"
        print(f"{what}: {found.space} {found.score:.4f}", flush=True)
        known = found.score - score(REFERENCE[name])
        print(f"    short of it fall: evolution {found.score - best:.4f}, the published space {known:.4f}", flush=True)


def main() -> None:
    if not PUBLISHED.is_dir():
        print(f"the evolution engine is timed on the authors' tables, which are not at {PUBLISHED}")
        return
    for name in LIMITS:
        table = loading(name)
        rng = np.random.default_rng(0)
        spaces = [SearchSpace.sample(table.hyperspace, rng) for _ in range(300)]
        scoring(name, table, spaces)
        noise(name, table, spaces)
        exactness(name, table, spaces[:30])
        searching(name, table)
        optimum(name, table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    print(f"at most {peak:.0f} MiB of memory in all of this (target 1024)")


if __name__ == "__main__":
    main()
