"""``python -m spaceevo.predictor``: fit the latency predictor to the measurements, or take a given one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.provenance import KERNELS, PREDICTOR, sha256
from spaceevo.settings import setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import OfASpace, OnADevice, hyperspace
from spaceevo.steps.step import SPACE, Step

if TYPE_CHECKING:
    from spaceevo.latency.predictor import Predictor

TOO_LARGE = 10.0  # percent of error, in the median, of a predictor moved to another device


@dataclass
class PredictorConfig:
    """The latency predictor."""

    held_out: float = setting("share of the measurements that a first fit is judged by", below=1)


class Needs(OfASpace, OnADevice, Protocol):
    """What it reads of the config. ``adapt``: models measured on another device, to which ``device``'s predictor is moved."""

    seed: int
    adapt: str | None
    predictor: PredictorConfig


def run(folder: Folder, cfg: Needs) -> None:
    """The predictor, and its scores on what was held out of a first fit.

    ``device.predictor``: null for the profile's; ``shipped``; a predictor's JSON file; a folder of published tables.
    """
    from spaceevo.atomic import write_json
    from spaceevo.space import one_of_each, superset_graph
    from spaceevo.space.differences import hyperspace_sha256

    hs = hyperspace(cfg)
    if cfg.device.predictor is None:
        import pandas as pd

        from spaceevo.latency.fit import fit, held_out_scores, interval_of

        frame = pd.read_parquet(folder.input(KERNELS))
        predictor, scores = fit(frame, hs), held_out_scores(frame, hs, cfg.predictor.held_out, cfg.seed)
        if (frame.kind == "subnet").any():
            predictor.interval = interval_of(frame, hs, cfg.seed)
        what = "held-out subnets"
    else:
        from spaceevo.latency.published import given

        predictor, scores = given(cfg.device.predictor, cfg.device.name, hs, cfg.seed)
        what = "held-out sub-stages of the published tables"
    if cfg.adapt is not None:
        from spaceevo.latency.adapt import adapted, read_rows

        predictor, scores = adapted(predictor, read_rows(Path(cfg.adapt), hs))
        what = f"subnets of {cfg.adapt}, each predicted from the others,"
        _tell_adapted(scores)
    origin = dict(device=cfg.device.name, hyperspace=hs.name, hyperspace_sha256=hyperspace_sha256(hs))
    if cfg.device.predictor is not None:
        origin = _compared(cfg.device.predictor, origin)
    if cfg.adapt is not None:
        origin |= dict(adapted_to=cfg.adapt, adapted_to_sha256=sha256(Path(cfg.adapt)))
    predictor.save(folder.output(PREDICTOR), **origin, scores=scores)
    write_json(folder.output("latency/predictor_scores.json"), scores)
    if scores:
        say(f"predictor: {scores['within_10pct']:.0f} % of {scores['n']:,} {what} within 10 %")
    if predictor.interval is not None:
        low, high = (100 * ratio - 100 for ratio in predictor.interval)
        say(f"predictor: nine of ten subnets measure between {low:+.1f} % and {high:+.1f} % of what is predicted")
    if predictor.blocks is not None and cfg.adapt is None and cfg.device.name == hs.device:
        _tell_published(predictor, hs.name, cfg.device.name)
    unknown = sorted({kind for space in one_of_each(hs) for kind in predictor.unknown(superset_graph(space))})
    if unknown:
        say(f"predictor: knows nothing of {', '.join(unknown)}, which {hs.name} has: they count 0 ms")


def _tell_published(predictor: Predictor, hyperspace: str, device: str) -> None:
    """Of a device whose blocks alone are published: how sure the rest is, and the paper's models beside what is predicted."""
    from spaceevo.latency.table1 import compared
    from spaceevo.report.latency_text import table1_text

    if predictor.ends_interval is not None:
        low, high = predictor.ends_interval
        what = "stem, stage 0 and head are not in the published tables and are estimated from ops"
        say(f"predictor: {what}: nine of ten measure {low:.2f} to {high:.2f} times what is predicted, by Table 1's models")
    if models := compared(predictor, hyperspace):
        say(table1_text(models, device))


def _tell_adapted(scores: dict[str, Any]) -> None:
    """What the other device is like, and what to do where the predictor does not fit it."""
    told = f"takes {scores['factor']:.3g} times as long, and {scores['call_ms']:.3g} ms more a call"
    say(f"predictor: the other device {told}: median error {scores['median_error_pct']:.1f} %")
    if scores["median_error_pct"] > TOO_LARGE:
        say("predictor: that is another kind of device: measure it in full, `python -m spaceevo.profile device=...`")


def _compared(given: str, mine: dict[str, str]) -> dict[str, str]:
    """What a given predictor was fitted for, beside what it is used for: a file's own words, where it has some."""
    if not Path(given).is_file():
        return mine  # published tables are asked for by hyperspace, and those shipped by device
    known = json.loads(Path(given).read_text())
    theirs = {key: known[key] for key in mine if key in known}
    if not theirs:
        say(f"predictor: device.predictor={given}: does not tell for which device and hyperspace it was fitted")
    for key, other in (("device", "device"), ("hyperspace_sha256", "hyperspace")):
        if key in theirs and theirs[key] != mine[key]:
            say(f"predictor: device.predictor={given}: fitted for {other}={theirs[other]}, and used for {mine[other]}")
    return theirs


STEP = Step(
    "predictor",
    "predictor",
    "fits the latency predictor to the measurements",
    ("device", *SPACE, "predictor", "adapt"),
    (KERNELS,),
    (PREDICTOR, "latency/predictor_scores.json"),
    run,
    needs_latency=True,
    examples=("experiment=demo", "device=pixel4 hyperspace=mobilew adapt=rows.csv"),
)
