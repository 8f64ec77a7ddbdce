"""Standard networks beside a run's models, and these themselves: each trained alone from nothing, then quantized."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from spaceevo.data import Images, Normalized, input_range
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import recalibrated_top1
from spaceevo.space import Graph
from spaceevo.space.standard import OWN, STANDARD, standard_graph
from spaceevo.steps.alone import train_alone
from spaceevo.steps.common import check_learned, quantizer, rates_of
from spaceevo.steps.folder import Folder
from spaceevo.steps.leaving import Judges, Leaving, judged
from spaceevo.steps.needs import Exported, Trained
from spaceevo.steps.source import exported
from spaceevo.steps.step import DATA, SCHEME
from spaceevo.training.checkpoint import load_checkpoint, save_checkpoint
from spaceevo.training.config import AloneConfig, TimedConfig
from spaceevo.training.subnets import Part
from spaceevo.training.watch import Bar

#: What the weights depend on, beside the network, its recipe and the split.
TRAINED = (*DATA, *SCHEME, "search_subnet.calibration_images", "trainer.precision")


class Needs(Exported, Trained, Protocol):
    """What it reads of the config."""

    @property
    def baseline(self) -> AloneConfig: ...


@dataclass(frozen=True)
class Network:
    """A standard network at one multiplier of its widths, or the subnet that a model of the run is (``family``: ``own``).

    Attributes:
        name: of its folder in ``baselines/``.
        encoding: how a card calls it.
        graph: its op graph, for the run's images.
    """

    name: str
    family: str
    width: float
    encoding: str
    graph: Graph

    @property
    def made(self) -> dict[str, Any]:
        """What its weights are of."""
        return dict(family=self.family, width=self.width) | ({"encoding": self.encoding} if self.family == OWN else {})


def networks_of(folder: Folder, cfg: Needs, names: list[str], widths: list[float] | None) -> list[Network]:
    """The networks of ``names``, each at all ``widths`` (None: at its own ladder's); of ``own``, all subnets that the run's
    models are."""
    found: list[Network] = []
    for name in names:
        if name == OWN:
            found += _own(folder)
            continue
        for width in widths or STANDARD[name].widths:
            graph = standard_graph(name, width, cfg.data.channels, cfg.data.classes, cfg.data.image_size)
            found.append(Network(f"{name}-x{width:g}", name, width, f"{name} x{width:g}", graph))
    return found


def _own(folder: Folder) -> Iterator[Network]:
    for path in folder.inputs("models/*/card.json"):
        model = exported(path.parent)
        yield Network(f"{OWN}-{model.name}", OWN, 1.0, model.facts["encoding"], model.graph)


def train(
    folder: Folder, cfg: Needs, network: Network, images: Images, by: Judges, seconds: float, version: int
) -> tuple[Path, int]:
    """Train ``network`` from nothing for ``seconds``, unless that was done before by the same ``version`` of the step.

    Returns:
        Its checkpoint, and the number of steps.
    """
    path = folder.output(f"baselines/{network.name}/trained.ckpt")
    how = {field.name: getattr(cfg.baseline, field.name) for field in fields(AloneConfig)}
    recipe = TimedConfig(**how, seconds=seconds, epochs=None)
    made = dict(
        version=version,
        **network.made,
        **folder.subset(TRAINED),
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
    steps = train_alone(folder, cfg, recipe, network.name, net, graph, images, by.calibration)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_checkpoint(path, dict(made=made, graph=graph.as_data(), padding=net.padding, steps=steps, state_dict=state))
    return path, steps


def new_network(cfg: Needs, network: Network) -> tuple[Elastic, Graph]:
    """The network with random weights of the config's seed, and its graph."""
    torch.manual_seed(cfg.seed)
    net = Elastic(network.graph, input_range(cfg.data), cfg.device.padding)
    return net.to(memory_format=torch.channels_last), network.graph


def quantized(cfg: Needs, network: Network, path: Path, images: Images, by: Judges, facts: Mapping[str, Any]) -> Leaving:
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
    if facts["steps"] >= Bar.of(cfg.data.classes, cfg.baseline.batch).steps:
        rates = rates_of("baseline", cfg.baseline)
        check_learned(f"baseline: {network.name}", rates, chosen_by[way], cfg.data.classes, first_judge)
    told = dict(network=network.family, width=network.width, quantized=way, top1_choosing=chosen_by, **facts)
    more = dict(
        encoding=network.encoding,
        space=None,
        top1_val=top1(ways[way], judging),
        limit_ms=None,
        predicted_ms=None,
        top1_inherited=None,
        baseline=told,
    )
    return judged(cfg, network.name, path.parent, ways[way], graph, by, more)
