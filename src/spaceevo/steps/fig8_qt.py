"""``python -m spaceevo.fig8_qt``: is the space with the better Q-T score better once it is trained? (Paper, figure 8.)"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from spaceevo.errors import bad_value
from spaceevo.provenance import FIG8, PREDICTOR
from spaceevo.settings import COUNT, EPOCHS, IMAGES, setting
from spaceevo.steps.folder import Folder, holder_of, say
from spaceevo.steps.needs import InASpace, hyperspace
from spaceevo.steps.scoring import Scored, score_of, tables_of
from spaceevo.steps.search_subnet import SearchSubnetConfig
from spaceevo.steps.step import DATA, SPACE, STEERED, Step
from spaceevo.steps.tau import TauConfig
from spaceevo.training.config import SupernetConfig, TrainerConfig

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.latency.predictor import Predictor
    from spaceevo.nn.elastic import Elastic
    from spaceevo.space import Hyperspace, SearchSpace

CANDIDATES = 20  # random spaces for each that is trained: which of them, is drawn
TRIES = 10  # times as many spaces are looked at, at most, for those that can keep the limits
LUCK = 0xF18  # the draw's own, whatever else the seed draws
SPACES = 4  # fewer trained spaces tell no order


@dataclass
class Fig8QtConfig:
    """Figure 8 of the paper: random spaces, each trained as the found one is but for what is said here."""

    spaces: int = setting("how many of them", least=SPACES, most=COUNT)
    supernet_epochs: int = setting("passes of a supernet's training in FP32", most=EPOCHS)
    supernet_images: int | None = setting("training images of such a pass; null: all", most=IMAGES)
    qat_epochs: int = setting("passes of its quantization-aware training", most=EPOCHS)
    qat_images: int | None = setting("training images of such a pass; null: all", most=IMAGES)
    subnets: int = setting("random ones within each latency limit, the best of which a space is judged by", most=COUNT)


class Needs(Scored, InASpace, Protocol):
    """What it reads of the config."""

    trainer: TrainerConfig
    supernet: SupernetConfig
    qat: SupernetConfig
    tau: TauConfig
    search_subnet: SearchSubnetConfig
    fig8_qt: Fig8QtConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Train random spaces as the found one is trained, but shorter, and compare the Q-T scores that they had before with the
    INT8 accuracies that their best subnets within the limits have then: Kendall's tau, with its interval."""
    import pandas as pd

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import check_limits
    from spaceevo.evolution.kendall import kendall
    from spaceevo.latency.predictor import Predictor
    from spaceevo.training.checkpoint import load_supernet

    hs, predictor = hyperspace(cfg), Predictor.load(folder.input(PREDICTOR))
    images = folder.images(cfg.data, False)
    changed = dict(lut=None, search_space=replace(cast(Any, cfg.search_space), mode="exact", fitting=False))
    exact = cast(Scored, replace(cast(Any, cfg), **changed))
    tables, limits = tables_of(folder, exact)
    limits = sorted(limits)
    check_limits(tables.whole, limits)
    score = score_of(exact, tables, limits)
    rng = np.random.default_rng([cfg.seed, LUCK])
    candidates = _candidates(hs, predictor, limits, cfg.fig8_qt.spaces, rng)
    chosen = spread([float(score(space)) for space in candidates], cfg.fig8_qt.spaces, rng)
    rows: list[dict[str, Any]] = []
    told = False
    for number, space in enumerate((candidates[i] for i in chosen), 1):
        per_limit = score.per_limit(space)
        say(f"fig8_qt: {number} of {len(chosen)}: {space}, Q-T score {per_limit.sum():.3f}")
        began, own = time.monotonic(), folder.partial / str(space)
        job = shorter(cfg, space, own)
        whole = all([folder.execute("supernet", job), folder.execute("qat", job)])
        net, _ = load_supernet(holder_of("qat.ckpt", own, folder.shared) / "qat.ckpt", hs)
        best = _best(cfg, space, net, predictor, limits, images, own / "seen.json")
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
    write_parquet(folder.output(FIG8), frame, {"limits_ms": limits})
    write_yaml(folder.output("fig8_qt.yaml"), found)
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
    from spaceevo.latency.limits import HEADROOM, fastest_ms
    from spaceevo.space import SearchSpace

    found: dict[SearchSpace, bool] = {}
    for _ in range(TRIES * CANDIDATES * wanted):
        space = SearchSpace.sample(hs, rng)
        if space not in found:
            enough = HEADROOM * min(limits)
            found[space] = fastest_ms(predictor, space, enough) <= enough
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
    cfg: Needs,
    space: SearchSpace,
    net: Elastic,
    predictor: Predictor,
    limits: Sequence[float],
    images: Images,
    cache: Path,
) -> list[dict[str, Any]]:
    """The best subnet within each of ``limits``, which rise: its top-1 in percent on the images that steer the search, and its
    predicted ms. The best of a limit is among those tried for every larger one."""
    from spaceevo.evolution import GeneCode, constrained_evolution
    from spaceevo.space import Subnet
    from spaceevo.steps.judges import searching

    judge = searching(cfg, net, images, cache)
    code = GeneCode(space)
    predicted_ms = predictor.costs(code)
    best: list[dict[str, Any]] = []
    for limit in limits:
        archive = constrained_evolution(
            code,
            predicted_ms,
            [limit],
            lambda genes: judge.top1(code.decode(genes)),
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


def shorter(cfg: Needs, space: SearchSpace, own: Path) -> dict[str, Any]:
    """What of the config trains ``space`` as the found one is trained, but for the length, in a folder of its ``own``, where a
    killed run goes on."""
    recipe = cfg.fig8_qt
    return dict(
        space=str(space),
        out_dir=str(own),
        start_over=False,
        supernet=replace(cfg.supernet, epochs=recipe.supernet_epochs, images=recipe.supernet_images),
        qat=replace(cfg.qat, epochs=recipe.qat_epochs, images=recipe.qat_images),
    )


STEP = Step(
    "fig8_qt",
    "fig8_qt",
    "trains random spaces and compares their accuracy with their Q-T scores (in the pipeline with also=[fig8_qt])",
    (
        *DATA, *SPACE, "device", "latency", "search_space.rows", "search_space.draws", "search_space.top",
        "search_subnet.mutate_probability", "tau.resamples", "fig8_qt", "supernet", "qat", *STEERED, "trainer.precision",
    ),
    ("lut.parquet", PREDICTOR),
    (FIG8, "fig8_qt.yaml"),
    run,
    needs_latency=True,
    optional=True,
    examples=("experiment=fig8_qt", "experiment=fig8_qt run_dir=runs/other fig8_qt.spaces=30"),
)  # fmt: skip
