"""``python -m spaceevo.baseline``: standard networks, trained alone exported like a found model, and the run beside them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.errors import LimitError, bad_value
from spaceevo.latency.config import RUNTIMES
from spaceevo.settings import SECONDS, setting
from spaceevo.steps.finish import FinishConfig, paced
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Exported, Trained
from spaceevo.steps.step import AT_BASELINES, DATA, JUDGED, MODEL_FILES, TIMING, Step
from spaceevo.training.config import AloneConfig

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.steps.networks import Network

CLOSE = 1.05  # limits nearer than this factor are one


@dataclass
class BaselineConfig(AloneConfig):
    """Standard networks trained alone, from nothing, beside the run's models."""

    widths: list[float] | None = setting(
        "multipliers of every network's widths; null: the network's own ladder", most=1000, distinct=True
    )
    seconds: float | None = setting(
        "for training each, s; null: the run's whole time divided by its number of models", most=SECONDS
    )
    search: bool = setting("the run is also searched, and finished, at the latency of each")


class Needs(Exported, Trained, Protocol):
    """``baselines``: names of standard networks, or ``own``."""

    baselines: list[str]
    baseline: BaselineConfig
    finish: FinishConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Train and export every network, search the run at their latencies, measure all in one run, and say who beats whom.

    Raises:
        UserError: no validation images are left to choose a quantization by.
        ClaimError: an exported network is not the trained one.
    """
    from spaceevo.atomic import write_yaml
    from spaceevo.report.verdict import verdict
    from spaceevo.steps.common import start
    from spaceevo.steps.networks import networks_of

    start(cfg)
    networks = networks_of(folder, cfg, cfg.baselines, cfg.baseline.widths)
    images, seconds = folder.images(cfg.data, True), cfg.baseline.seconds or seconds_a_model(folder)
    if not 0 < cfg.search_subnet.judge_images < len(images.val):
        allowed = f"less than data.validation={cfg.data.validation}: the others choose how a baseline is quantized"
        raise bad_value("search_subnet.judge_images", cfg.search_subnet.judge_images, allowed)
    _export(folder, cfg, networks, images, seconds)
    folders = [folder.output(f"baselines/{network.name}/card.json") for network in networks]
    cards = [json.loads(path.read_text()) for path in folders]
    models = folder.inputs("models/*/card.json")
    at = None
    if cfg.baseline.search:
        own = paced(folder, cfg.finish, len(models), images)
        at = searched_at(folder, [card["measured_ms"] for card in cards], own)
    told = _measured(cfg, {"networks": folders, "models": models, "at": at or []})
    if at is None:
        told["at"] = copy.deepcopy(told["models"])
    for row, card in zip(told["networks"], cards, strict=True):
        row |= dict(limit_ms=card["measured_ms"], **card["baseline"])
    runtimes = _runtimes([row for rows in told.values() for row in rows])
    told["verdict"] = [verdict(told["networks"], told["models"], told["at"], runtime) for runtime in runtimes]
    write_yaml(folder.output("baselines.yaml"), dict(seconds=seconds, searched=cfg.baseline.search, **told))


def seconds_a_model(folder: Folder) -> float:
    """The wall time of the run's steps but for its report, divided by its number of models."""
    return sum(record["wall_s"] for record in folder.records()) / len(folder.inputs("models/*/card.json"))


def _export(folder: Folder, cfg: Needs, networks: Sequence[Network], images: Images, seconds: float) -> None:
    """Every network trained, quantized, checked, measured and written, unless a killed run got that far."""
    from spaceevo.provenance import sha256
    from spaceevo.steps.leaving import Judges, files_of, gate, words, write
    from spaceevo.steps.measured import measured
    from spaceevo.steps.networks import quantized, train

    done = folder.partial / "exported"
    if done.exists():
        return
    by = Judges.of(cfg, images)
    models = []
    for i, network in enumerate(networks, 1):
        say(f"baseline: {network.name}, {i} of {len(networks)}, {seconds:.3g} s")
        path, steps = train(folder, cfg, network, images, by, seconds, STEP.version)
        models.append(quantized(cfg, network, path, images, by, dict(steps=steps, seconds=seconds)))
    gate("baseline", models)
    taken = measured(cfg, files_of(models), {})
    for model in models:
        card = write(cfg, model, taken, {"trained.ckpt": sha256(model.folder / "trained.ckpt")})
        told = card["baseline"]
        say(words("baseline", card, f", {told['steps']} steps, quantizers {told['quantized']}"))
    done.touch()


def merged(limits_ms: Sequence[float]) -> list[float]:
    """Rising limits, each at least ``CLOSE`` times the one before: of those that are nearer, the least."""
    kept: list[float] = []
    for limit in sorted(limits_ms):
        if not kept or limit >= CLOSE * kept[-1]:
            kept.append(limit)
    return kept


def searched_at(folder: Folder, limits_ms: Sequence[float], finish: FinishConfig) -> list[Path]:
    """The run searched, finished by ``finish`` and exported at ``limits_ms``, in a folder of its own.

    Returns:
        The cards; none for limits that no subnet keeps.
    """
    from spaceevo.atomic import write_json
    from spaceevo.latency.config import LatencyConfig

    record, at = folder.partial / "smallest_ms.json", folder.out / AT_BASELINES
    smallest = json.loads(record.read_text()) if record.exists() else 0.0
    while limits := merged([limit for limit in limits_ms if limit >= smallest]):
        latency_limits = LatencyConfig(limits_ms=limits, quantiles=None)
        there = dict(out_dir=str(at), latency=latency_limits, finish=finish, start_over=False)
        say(f"baseline: the run at {', '.join(f'{limit:.4g}' for limit in limits)} ms")
        try:
            folder.execute("search_subnet", there)
        except LimitError as error:
            smallest = error.smallest_ms
            write_json(record, smallest)
            say(f"baseline: the run has no model for less than {smallest:.4g} ms")
            continue
        folder.execute("finish", there)
        folder.execute("export", there)
        return replace(folder, out=at).inputs("models/*/card.json")
    return []


def _measured(cfg: Needs, groups: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, Any]]]:
    """A row for every card of ``groups``: accuracy and ms by runtime, the INT8 files of all measured in one interleaved run."""
    from spaceevo.deploy.claims.ran import ran
    from spaceevo.latency.measure import latency
    from spaceevo.steps.measured import times_of

    rows: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
    files: dict[str, bytes] = {}
    places: dict[str, dict[str, Any]] = {}
    for group, paths in groups.items():
        for path in paths:
            card = json.loads(path.read_text())
            row = {key: card[key] for key in ("name", "limit_ms", "params", "mmacs", "top1_val")} | dict(
                top1={}, measured_ms={}
            )
            for one in ran(card):
                if one.claims["precision"] == "int8":
                    row["top1"][one.runtime] = one.claims["top1"]
                    name = f"{group}/{card['name']}/{one.file}"
                    files[name], places[name] = (path.parent / one.file).read_bytes(), row["measured_ms"]
            rows[group].append(row)
    for runtime, times in times_of(cfg, files).items():
        for name, taken in times.items():
            places[name][runtime] = latency(taken)
    return rows


def _runtimes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that all candidates have been run and measured in."""
    return [name for name in RUNTIMES if all(name in row["top1"] and name in row["measured_ms"] for row in rows)]


STEP = Step(
    "baseline",
    "baseline",
    "trains standard networks as long as the run took a model, and says which beat its models (not in the pipeline)",
    (*DATA, "data.test_limit", "device", "baselines", "baseline", "export", *JUDGED, *TIMING, "trainer.precision"),
    ("models/*/model.onnx", "models/*/model.tflite", "models/*/card.json", "finished/*.ckpt"),
    ("baselines.yaml", *(f"baselines/*/{name}" for name in ("trained.ckpt", *MODEL_FILES))),
    run,
    free=("latency",),
    needs_device=True,
    optional=True,
    version=3,
    examples=("experiment=demo", "run_dir=runs/demo baselines=[plain4,resnet] baseline.search=false"),
)
