"""``python -m spaceevo.tau``: how well the accuracy table orders the subnets of the trained supernet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from spaceevo.errors import UserError, bad_value
from spaceevo.progress import progress
from spaceevo.provenance import TAU
from spaceevo.settings import COUNT, setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, Seeded, hyperspace
from spaceevo.steps.step import DATA, SCHEME, SPACE, STEERED, Step
from spaceevo.training.config import BkdConfig, TrainerConfig

if TYPE_CHECKING:
    import pandas as pd

    from spaceevo.evolution import GeneCode
    from spaceevo.evolution.genes import Genes
    from spaceevo.space import Subnet
    from spaceevo.steps.lut import TabulateConfig
    from spaceevo.steps.search_subnet import SearchSubnetConfig
    from spaceevo.training.subnets import Seen, SubnetEvaluator

TAU_SUBNETS = 10  # fewer evaluated subnets tell no order
TRUSTED = 0.4  # a tau below it is warned of
DRAWN = 20  # times as many draws as subnets that are wanted: some are the same
LUCK = 0x7A1  # the draw's own, whatever else the seed draws


@dataclass
class TauConfig:
    """How well the accuracy table orders subnets."""

    subnets: int = setting(
        "random ones of the found space that are evaluated for it and begin the search; 0: it is not measured",
        least=TAU_SUBNETS,
        most=COUNT,
        zero="which a tau needs, or 0 for none",
    )
    resamples: int = setting("of the bootstrap interval", least=1, most=COUNT)


class Needs(InASpace, OnADevice, Seeded, Protocol):
    """What it reads of the config."""

    trainer: TrainerConfig
    bkd: BkdConfig
    tabulate: TabulateConfig
    tau: TauConfig
    search_subnet: SearchSubnetConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Kendall's tau between the NSR sums that the table predicts and the INT8 cross entropies of random subnets, with inherited
    weights and on the images that steer the search: of all resolutions together, and of each alone. (Of so few images the
    top-1 is mostly luck: it orders subnets as their own cross entropy does to a tau of 0.3 in the demo.)

    Raises:
        UserError: too few subnets for a tau are asked for, or in the space.
    """
    import pandas as pd

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import GeneCode
    from spaceevo.evolution.loading import check_origin
    from spaceevo.evolution.nsr_sums import NsrSums
    from spaceevo.evolution.quality_fit import guessed_by_the_others
    from spaceevo.steps.common import start
    from spaceevo.steps.judges import searching
    from spaceevo.training.checkpoint import load_supernet

    if cfg.tau.subnets == 0:
        raise bad_value("tau.subnets", 0, f"{TAU_SUBNETS} or more, which a tau needs")
    start(cfg)
    net, space = load_supernet(folder.input("qat.ckpt"), hyperspace(cfg))
    code = GeneCode(space)
    genes = random_subnets(code, cfg.tau.subnets, cfg.seed)
    if len(genes) < TAU_SUBNETS:
        raise UserError(
            f"tau.subnets={cfg.tau.subnets}: {space} has {len(genes)} subnets, a tau needs {TAU_SUBNETS}; give tau.subnets=0"
        )
    check_origin(table := folder.input("lut.parquet"), hyperspace(cfg), cfg.device.name)
    nsr = NsrSums(code, pd.read_parquet(table)).stages(genes)
    subnets = code.decode(genes)
    judge = searching(cfg, net, folder.images(cfg.data, False), folder.partial / "evaluated.json")
    accuracy, loss = map(list, zip(*_seen(judge, subnets, cfg.trainer.progress_bar), strict=True))
    guessed = guessed_by_the_others(code, genes, np.array(loss), cfg.seed)
    frame = pd.DataFrame(
        dict(subnet=list(map(str, subnets)), resolution=[subnet.resolution for subnet in subnets], nsr=nsr.sum(1))
        | {f"nsr_{stage}": column for stage, column in enumerate(nsr.T, 1)}
        | dict(top1_search=accuracy, loss_search=loss, loss_guessed=guessed)
    )
    taus = taus_of(cfg, frame)
    found = dict(space=str(space), trusted=TRUSTED, resamples=cfg.tau.resamples, taus=taus)
    write_parquet(folder.output(TAU), frame)
    write_yaml(folder.output("tau.yaml"), found)
    for line in [*map(_words, taus), *warnings(cfg, taus)]:
        say(f"tau: {line}")


def _seen(judge: SubnetEvaluator, subnets: list[Subnet], show: bool) -> list[Seen]:
    """What the images that steer the search say of each subnet."""
    from spaceevo.steps.judges import CHUNK

    seen: list[Seen] = []
    with progress(total=len(subnets), desc="subnets", show=show) as bar:
        for first in range(0, len(subnets), CHUNK):
            seen += judge.seen(subnets[first : first + CHUNK])
            bar.update(len(seen) - bar.n)
    return seen


def random_subnets(code: GeneCode, count: int, seed: int) -> Genes:
    """``count`` different subnets of the space, or as many as it has: as many of each resolution, all else uniform."""
    from spaceevo.evolution.genes import RESOLUTION

    genes = code.sample(DRAWN * count, np.random.default_rng([seed, LUCK]))
    genes[:, RESOLUTION] = np.arange(len(genes)) % len(code.space.hyperspace.resolutions)
    _, first = np.unique(genes, axis=0, return_index=True)
    return genes[np.sort(first)[:count]]


def taus_of(cfg: Needs, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Of all subnets of ``tau.parquet`` and, where they have more than one, of each resolution's."""
    resolutions = sorted(frame.resolution.unique())
    return [_tau(cfg, frame, None), *(_tau(cfg, frame, int(r)) for r in resolutions if len(resolutions) > 1)]


def _tau(cfg: Needs, frame: pd.DataFrame, resolution: int | None) -> dict[str, Any]:
    """Tau of the NSR sum and the cross entropy, with its interval, of the subnets of a ``resolution``, None for all;
    ``fitted``: the same of what a fit to the other subnets guesses; ``top1`` and ``fitted_top1``: of both with the top-1."""
    from spaceevo.evolution.kendall import kendall

    rows = frame if resolution is None else frame[frame.resolution == resolution]
    nsr, guessed, loss, top1 = (rows[key].to_numpy() for key in ("nsr", "loss_guessed", "loss_search", "top1_search"))
    plain = kendall(nsr, loss, cfg.tau.resamples, cfg.seed)
    others = dict(fitted=(guessed, loss), top1=(nsr, -top1), fitted_top1=(guessed, -top1))
    return dict(
        resolution=resolution,
        **asdict(plain),
        **{key: kendall(*pair, resamples=1, seed=cfg.seed).tau for key, pair in others.items()},
    )


def _words(tau: dict[str, Any]) -> str:
    """A tau in one line."""
    which = "of all resolutions" if tau["resolution"] is None else f"of {tau['resolution']} pixels"
    who = f"{tau['count']} random subnets {which}"
    if tau["tau"] is None:
        return f"{who} are all equally good or all predicted alike, so there is no tau"
    plain = f"NSR sum and cross entropy agree to {tau['tau']:.2f} (95 %: {tau['low']:.2f} to {tau['high']:.2f})"
    fitted, top1, fitted_top1 = (_figure(tau[key]) for key in ("fitted", "top1", "fitted_top1"))
    by = "a fit to the others, by which the search goes"
    return f"{who}: {plain}, {by}, to {fitted}; with their top-1 {top1} and {fitted_top1}"


def _figure(tau: float | None) -> str:
    return "none" if tau is None else f"{tau:.2f}"


def warnings(cfg: Needs, taus: list[dict[str, Any]]) -> list[str]:
    """A line where a tau is below ``TRUSTED``, of as many subnets as tell one: which, and what raises it."""
    told = [tau for tau in taus if tau["tau"] is not None and tau["count"] >= TAU_SUBNETS]
    low = [tau for tau in told if tau["tau"] < TRUSTED]
    if not low:
        return []
    where = ["over all resolutions" if tau["resolution"] is None else f"at {tau['resolution']} pixels" for tau in low]
    longer = f"bkd.epochs={2 * cfg.bkd.epochs}" if cfg.bkd.images is None else f"bkd.images={2 * cfg.bkd.images}"
    remedies = [longer, f"tabulate.samples={2 * cfg.tabulate.samples}"]
    if cfg.bkd.targets != "full":
        remedies.insert(0, "bkd.targets=full")
    return [f"below {TRUSTED} {', '.join(where)}: the table's order is not to be trusted there; try {', '.join(remedies)}"]


STEP = Step(
    "tau",
    "tau",
    "measures how well the accuracy table orders random subnets of the trained supernet (Kendall's tau)",
    (*DATA, *SPACE, "space", *SCHEME, "tau", *STEERED),
    ("space.yaml", "qat.ckpt", "lut.parquet"),
    (TAU, "tau.yaml"),
    run,
    free=("latency",),
    version=3,
    examples=("experiment=demo tau.subnets=200",),
)
