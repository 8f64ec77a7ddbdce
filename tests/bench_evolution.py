"""``make bench``: the evolution engine on the published tables, beside the plain versions, with its targets."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from spaceevo.evolution import QTScore, Table, aging_evolution, exhaustive_search, load_table, random_search
from spaceevo.space import SearchSpace

PUBLISHED = Path(__file__).resolve().parents[1].parent / "shared" / "published" / "block_lut"
LIMITS = {"onnxw": (8, 10, 15, 20, 25), "mobilew": (15, 20, 25, 30, 35)}
REFERENCE = {"onnxw": "onnxw-151122-023231", "mobilew": "mobilew-122222-155400"}
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


def searching(name: str, table: Table) -> None:
    for mode in ("sampled", "exact"):
        score = QTScore(table, LIMITS[name], mode=mode)
        begin = time.process_time()
        found = [aging_evolution(score, seed=seed) for seed in SEEDS]
        taken = (time.process_time() - begin) / len(SEEDS)
        best, known = max(f.score for f in found), score(REFERENCE[name])
        near = sum(f.score >= best - 0.005 * abs(best) for f in found)
        space = next(f.space for f in found if f.score == best)
        random = np.mean([random_search(score, seed=seed).score for seed in range(3)])
        print(f"{name}: 5,000 spaces evolved, {mode}: {taken:.2f} s (target 3 sampled); best {space} {best:.4f}", flush=True)
        print(
            f"    within 0.5 % of it: {near} of {len(SEEDS)} seeds; published {known:.4f}; random search {random:.4f}",
            flush=True,
        )


def optimum(name: str, table: Table) -> None:
    score = QTScore(table, LIMITS[name])
    begin = time.perf_counter()
    found = exhaustive_search(score, threads=2)
    taken = time.perf_counter() - begin
    best = max(aging_evolution(score, seed=seed).score for seed in SEEDS)
    spaces = table.hyperspace.spaces
    print(f"{name}: the best of {spaces:,} spaces in {taken:.1f} s on two cores: {found.space} {found.score:.4f}", flush=True)
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
        searching(name, table)
        optimum(name, table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    print(f"at most {peak:.0f} MiB of memory in all of this (target 1024)")


if __name__ == "__main__":
    main()
