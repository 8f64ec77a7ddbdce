"""``python -m spaceevo.baseline``: standard networks, trained alone exported like a found model, and the run beside them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from spaceevo.app.artifacts import Folders, config_subset, sha256
from spaceevo.app.config import AloneConfig, Config, LatencyConfig, TimedConfig
from spaceevo.app.exporting import Judges, Leaving, gate, judged, measured, timing, words, write
from spaceevo.app.run import execute, input_paths, output_path, partial, say
from spaceevo.app.steps import AT_BASELINES, DATA, SCHEME, STEPS, needed_steps
from spaceevo.app.upstream import step_images
from spaceevo.atomic import write_json, write_yaml
from spaceevo.data import Images, Normalized, input_range
from spaceevo.deploy.runtimes import RUNTIMES, measure_files
from spaceevo.errors import LimitError, bad_value
from spaceevo.latency.measure import latency
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import recalibrated_top1
from spaceevo.report.verdict import verdict
from spaceevo.space import Graph
from spaceevo.space.standard import STANDARD, standard_graph
from spaceevo.training.checkpoint import load_checkpoint, save_checkpoint
from spaceevo.training.finish import train_alone
from spaceevo.training.judges import Part
from spaceevo.training.recipes import quantizer, start

CLOSE = 1.05  # limits nearer than this factor are one
#: What the weights depend on, beside the network, its recipe and the split.
TRAINED = (*DATA, *SCHEME, "search_subnet.calibration_images", "trainer.precision")


@dataclass(frozen=True)
class Network:
    """A standard network at one multiplier of its widths."""

    family: str
    width: float

    @property
    def name(self) -> str:
        return f"{self.family}-x{self.width:g}"

    def graph(self, cfg: Config) -> Graph:
        return standard_graph(self.family, self.width, cfg.data.channels, cfg.data.classes, cfg.data.image_size)


def baselines(cfg: Config) -> None:
    """Train and export every network, search the run at their latencies, measure all in one run, and say who beats whom.

    Raises:
        UserError: no validation images are left to choose a quantization by.
        ClaimError: an exported network is not the trained one.
    """
    start(cfg)
    networks = [Network(name, width) for name in cfg.baselines for width in cfg.baseline.widths or STANDARD[name].widths]
    images, seconds = step_images("baseline", cfg, test=True), cfg.baseline.seconds or seconds_a_model(cfg)
    if not 0 < cfg.search_subnet.judge_images < len(images.val):
        allowed = f"less than data.validation={cfg.data.validation}: the others choose how a baseline is quantized"
        raise bad_value("search_subnet.judge_images", cfg.search_subnet.judge_images, allowed)
    _export(cfg, networks, images, seconds)
    folders = [output_path(cfg, f"baselines/{network.name}/card.json") for network in networks]
    cards = [json.loads(path.read_text()) for path in folders]
    models = input_paths(cfg, "models/*/card.json")
    at = searched_at(cfg, [card["measured_ms"] for card in cards]) if cfg.baseline.search else None
    told = _measured(cfg, {"networks": folders, "models": models, "at": at or []})
    if at is None:
        told["at"] = copy.deepcopy(told["models"])
    for row, card in zip(told["networks"], cards, strict=True):
        row |= dict(limit_ms=card["measured_ms"], **card["baseline"])
    runtimes = [runtime.name for runtime in RUNTIMES.values()]
    told["verdict"] = [verdict(told["networks"], told["models"], told["at"], runtime) for runtime in runtimes]
    write_yaml(output_path(cfg, "baselines.yaml"), dict(seconds=seconds, searched=cfg.baseline.search, **told))


def seconds_a_model(cfg: Config) -> float:
    """The wall time of the run's steps but for its report, divided by its number of models."""
    folders = Folders(cfg)
    held = [folders.holder(step) for step in needed_steps(cfg) if not step.lenient and not step.optional]
    total = sum(found[1]["wall_s"] for found in held if found is not None)
    return total / len(input_paths(cfg, "models/*/card.json"))


def _export(cfg: Config, networks: Sequence[Network], images: Images, seconds: float) -> None:
    """Every network trained, quantized, checked, measured and written, unless a killed run got that far."""
    done = partial(cfg, "baseline") / "exported"
    if done.exists():
        return
    by = Judges.of(cfg, images)
    models = []
    for i, network in enumerate(networks, 1):
        say(f"baseline: {network.name}, {i} of {len(networks)}, {seconds:.3g} s")
        path, steps = _train(cfg, network, images, by, seconds)
        models.append(_quantized(cfg, network, path, images, by, dict(steps=steps, seconds=seconds)))
    gate("baseline", models)
    taken = measured(cfg, models, {})
    for model in models:
        card = write(cfg, model, taken, {"trained.ckpt": sha256(model.folder / "trained.ckpt")})
        told = card["baseline"]
        say(words("baseline", card, f", {told['steps']} steps, quantizers {told['quantized']}"))
    done.touch()


def _train(cfg: Config, network: Network, images: Images, by: Judges, seconds: float) -> tuple[Path, int]:
    """Train ``network`` from nothing for ``seconds``, unless that was done before.

    Returns:
        Its checkpoint, and the number of steps.
    """
    path = output_path(cfg, f"baselines/{network.name}/trained.ckpt")
    how = {field.name: getattr(cfg.baseline, field.name) for field in fields(AloneConfig)}
    recipe = TimedConfig(**how, seconds=seconds, epochs=None)
    made = dict(
        version=STEPS["baseline"].version,
        **asdict(network),
        **config_subset(replace(STEPS["baseline"], keys=TRAINED), cfg),
        recipe=asdict(recipe),
        split=images.split,
        bits=quantizer(cfg).weight_bits,
    )
    known = load_checkpoint(path) if path.exists() else {}
    if known.get("made") == made:
        path.touch()  # it is this run's too
        return path, known["steps"]
    net, graph = new_network(cfg, network)
    net.init_quantizers(by.calibration, [graph], graph, quantizer(cfg))  # trained from the start where quantized_from is 0
    steps = train_alone(cfg, recipe, "baseline", network.name, net, graph, images, by.calibration)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_checkpoint(path, dict(made=made, steps=steps, state_dict=state))
    return path, steps


def new_network(cfg: Config, network: Network) -> tuple[Elastic, Graph]:
    """The network with random weights of the config's seed, and its graph."""
    torch.manual_seed(cfg.seed)
    graph = network.graph(cfg)
    return Elastic(graph, input_range(cfg.data), cfg.device.padding).to(memory_format=torch.channels_last), graph


def _quantized(cfg: Config, network: Network, path: Path, images: Images, by: Judges, facts: Mapping[str, Any]) -> Leaving:
    """The trained network as a model, with its trained quantizers or with ones fitted anew to its weights: with those that are
    better on the validation images but the last ``judge_images``, which say how good it is."""
    net, graph = new_network(cfg, network)
    net.load_state_dict(load_checkpoint(path)["state_dict"])
    trained, anew = net.eval(), copy.deepcopy(net)
    anew.init_quantizers(by.calibration, [graph], graph, quantizer(cfg))
    first_judge, pixels = len(images.val) - cfg.search_subnet.judge_images, Normalized(images.val, cfg.data)
    choosing, judging = range(first_judge), range(first_judge, len(images.val))

    def top1(net: Elastic, which: range) -> float:
        labels = images.val_labels[which.start : which.stop]
        return recalibrated_top1(net, graph, quantizer(cfg), by.calibration, Part(pixels, which), labels)

    ways = {"trained": trained, "fitted anew": anew}
    chosen_by = {way: top1(each, choosing) for way, each in ways.items()}
    way = max(chosen_by, key=lambda name: chosen_by[name])
    told = dict(network=network.family, width=network.width, quantized=way, top1_choosing=chosen_by, **facts)
    more = dict(
        encoding=f"{network.family} x{network.width:g}",
        space=None,
        top1_val=top1(ways[way], judging),
        limit_ms=None,
        predicted_ms=None,
        top1_inherited=None,
        baseline=told,
    )
    return judged(cfg, network.name, path.parent, ways[way], graph, by, more)


def merged(limits_ms: Sequence[float]) -> list[float]:
    """Rising limits, each at least ``CLOSE`` times the one before: of those that are nearer, the least."""
    kept: list[float] = []
    for limit in sorted(limits_ms):
        if not kept or limit >= CLOSE * kept[-1]:
            kept.append(limit)
    return kept


def searched_at(cfg: Config, limits_ms: Sequence[float]) -> list[Path]:
    """The run searched, finished and exported at ``limits_ms``, in a folder of its own.

    Returns:
        The cards; none for limits that no subnet keeps.
    """
    record = partial(cfg, "baseline") / "smallest_ms.json"
    smallest = json.loads(record.read_text()) if record.exists() else 0.0
    while limits := merged([limit for limit in limits_ms if limit >= smallest]):
        latency_limits = LatencyConfig(limits_ms=limits, quantiles=None)
        there = replace(cfg, out_dir=str(Path(cfg.out_dir) / AT_BASELINES), latency=latency_limits, start_over=False)
        say(f"baseline: the run at {', '.join(f'{limit:.4g}' for limit in limits)} ms")
        try:
            execute("search_subnet", there)
        except LimitError as error:
            smallest = error.smallest_ms
            write_json(record, smallest)
            say(f"baseline: the run has no model for less than {smallest:.4g} ms")
            continue
        execute("finish", there)
        execute("export", there)
        return input_paths(there, "models/*/card.json")
    return []


def _measured(cfg: Config, groups: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, Any]]]:
    """A row for every card of ``groups``: accuracy and ms by runtime, the INT8 files of all measured in one interleaved run."""
    rows: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
    files: dict[str, bytes] = {}
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for group, paths in groups.items():
        for path in paths:
            card = json.loads(path.read_text())
            row = {key: card[key] for key in ("name", "limit_ms", "params", "mmacs", "top1_val")} | dict(
                top1={}, measured_ms={}
            )
            for name, claims in card["files"].items():
                if claims["precision"] == "int8":
                    row["top1"][claims["runtime"]] = claims["top1"]
                    files[f"{group}/{card['name']}/{name}"] = (path.parent / name).read_bytes()
                    places[f"{group}/{card['name']}/{name}"] = row["measured_ms"], claims["runtime"]
            rows[group].append(row)
    for name, times in measure_files(files, **timing(cfg)).items():
        of, runtime = places[name]
        of[runtime] = latency(times)
    return rows
