"""``python -m spaceevo.fig8_qt``: is the space with the better Q-T score better once it is trained? (Paper, figure 8.)"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import execute, input_path, main_of, output_path, partial, say
from spaceevo.errors import bad_value

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.latency.predictor import Predictor
    from spaceevo.nn.elastic import Elastic
    from spaceevo.space import Hyperspace, SearchSpace

CANDIDATES = 20  # random spaces for each that is trained: which of them, is drawn
TRIES = 10  # times as many spaces are looked at, at most, for those that can keep the limits
LUCK = 0xF18  # the draw's own, whatever else the seed draws


def run(cfg: Config) -> None:
    """Train random spaces as the found one is trained, but shorter, and compare the Q-T scores that they had before with the
    INT8 accuracies that their best subnets within the limits have then: Kendall's tau, with its interval."""
    import pandas as pd

    from spaceevo.app.upstream import step_images
    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import check_limits
    from spaceevo.evolution.kendall import kendall
    from spaceevo.latency.predictor import Predictor
    from spaceevo.search_space import score_of, tables_of
    from spaceevo.training.checkpoint import load_supernet

    hs, predictor = hyperspace(cfg), Predictor.load(input_path(cfg, "latency/predictor.json"))
    images = step_images("fig8_qt", cfg)
    exact = replace(cfg, lut=None, search_space=replace(cfg.search_space, mode="exact", fitting=False))
    tables, limits = tables_of(exact)
    limits = sorted(limits)
    check_limits(tables.whole, limits)
    score = score_of(exact, tables.whole, limits)
    rng = np.random.default_rng([cfg.seed, LUCK])
    candidates = _candidates(hs, predictor, limits, cfg.fig8_qt.spaces, rng)
    chosen = spread([float(score(space)) for space in candidates], cfg.fig8_qt.spaces, rng)
    rows: list[dict[str, Any]] = []
    told = False
    for number, space in enumerate((candidates[i] for i in chosen), 1):
        per_limit = score.per_limit(space)
        say(f"fig8_qt: {number} of {len(chosen)}: {space}, Q-T score {per_limit.sum():.3f}")
        began, job = time.monotonic(), shorter(cfg, space)
        whole = all([execute("supernet", job), execute("qat", job)])
        best = _best(job, space, load_supernet(input_path(job, "qat.ckpt"), hs)[0], predictor, limits, images)
        if whole and not told:
            minutes = (time.monotonic() - began) / 60 * (len(chosen) - number)
            say(f"fig8_qt: about {minutes:.0f} minutes for {len(chosen) - number} more spaces")
            told = True
        top1 = [entry["top1"] for entry in best]
        say(f"fig8_qt: {space}: {np.mean(top1):.2f} %, the mean of {', '.join(f'{t:.2f}' for t in top1)} % within the limits")
        row = dict(space=str(space), score=float(per_limit.sum()), top1=float(np.mean(top1)))
        rows.append(row | {f"{key}_{n}": value for n, entry in enumerate(best) for key, value in entry.items()})
    frame = pd.DataFrame(rows)
    tau = kendall(frame.score.to_numpy(), frame.top1.to_numpy(), cfg.tau.resamples, cfg.seed)
    found = dict(**asdict(tau), resamples=cfg.tau.resamples, limits_ms=limits, **asdict(cfg.fig8_qt))
    write_parquet(output_path(cfg, "fig8_qt.parquet"), frame, {"limits_ms": limits})
    write_yaml(output_path(cfg, "fig8_qt.yaml"), found)
    words = "no tau, since all are equal" if tau.tau is None else f"{tau.tau:.2f} (95 %: {tau.low:.2f} to {tau.high:.2f})"
    say(f"fig8_qt: Kendall's tau of Q-T score and mean top-1 over {tau.count} random spaces: {words}")


def _candidates(
    hs: Hyperspace, predictor: Predictor, limits: Sequence[float], wanted: int, rng: np.random.Generator
) -> list[SearchSpace]:
    """Random spaces that have a subnet predicted within every limit, ``CANDIDATES`` for each of ``wanted`` or as many as are
    found.

    Raises:
        UserError: fewer than ``wanted`` are found.
    """
    from spaceevo.evolution import AdditiveCost, GeneCode
    from spaceevo.latency.limits import HEADROOM
    from spaceevo.space import SearchSpace

    found: dict[SearchSpace, bool] = {}
    for _ in range(TRIES * CANDIDATES * wanted):
        space = SearchSpace.sample(hs, rng)
        if space not in found:
            predicted_ms = AdditiveCost(GeneCode(space), predictor.graph_ms, predictor.op_ms)
            found[space] = float(predicted_ms(predicted_ms.cheapest())[0]) <= HEADROOM * min(limits)
            if sum(found.values()) == CANDIDATES * wanted:
                break
    fitting = [space for space, fits in found.items() if fits]
    if len(fitting) < wanted:
        allowed = f"at most {len(fitting)}: so many of {len(found)} spaces of {hs.name} have a subnet within {min(limits):g} ms"
        raise bad_value("fig8_qt.spaces", wanted, allowed)
    return fitting


def spread(scores: Sequence[float], wanted: int, rng: np.random.Generator) -> list[int]:
    """``wanted`` indices of ``scores``, by rising score: a random one of each of as many equal parts of their order."""
    return [int(rng.choice(part)) for part in np.array_split(np.argsort(scores, kind="stable"), wanted)]


def _best(
    cfg: Config, space: SearchSpace, net: Elastic, predictor: Predictor, limits: Sequence[float], images: Images
) -> list[dict[str, Any]]:
    """The best subnet within each of ``limits``, which rise: its top-1 in percent on the images that steer the search, and its
    predicted ms. The best of a limit is among those tried for every larger one."""
    from spaceevo.evolution import AdditiveCost, GeneCode, constrained_evolution
    from spaceevo.space import Subnet
    from spaceevo.training.judges import searching

    judge = searching(cfg, net, images, partial(cfg, "fig8_qt") / "evaluated.json")
    code = GeneCode(space)
    predicted_ms = AdditiveCost(code, predictor.graph_ms, predictor.op_ms)
    best: list[dict[str, Any]] = []
    for limit in limits:
        archive = constrained_evolution(
            code,
            predicted_ms,
            [limit],
            lambda genes: judge.quality(code.decode(genes)),
            population=cfg.fig8_qt.subnets + len(best),
            parents=1,
            generations=0,
            mutate_probability=cfg.search_subnet.mutate_probability,
            seed=cfg.seed,
            cheapest=predicted_ms.cheapest(),
            seeds=[Subnet.parse(space, entry["subnet"]) for entry in best],
        )
        first = archive.ranked(limit)[0]
        (subnet,) = archive.subnets([first])
        best.append(dict(top1=float(archive.quality[first]), ms=float(archive.cost[first]), subnet=str(subnet)))
    return best


def shorter(cfg: Config, space: SearchSpace) -> Config:
    """The config that trains ``space`` as the found one is trained, but for the length, in a folder of its own, where a killed
    run goes on."""
    recipe = cfg.fig8_qt
    return replace(
        cfg,
        space=str(space),
        out_dir=str(partial(cfg, "fig8_qt") / str(space)),
        start_over=False,
        supernet=replace(cfg.supernet, epochs=recipe.supernet_epochs, images=recipe.supernet_images),
        qat=replace(cfg.qat, epochs=recipe.qat_epochs, images=recipe.qat_images),
    )


main = entrypoint("fig8_qt", main_of("fig8_qt"))

if __name__ == "__main__":
    main()
