"""What ``from=`` names: a model that was exported here, or a file of weights that others trained on ImageNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spaceevo.data.config import DataConfig
from spaceevo.deploy.claims.reading import read_card
from spaceevo.errors import UserError, bad_value
from spaceevo.space.graph import Graph, graph_of
from spaceevo.space.imagenet import REDUCTION
from spaceevo.training.checkpoint import load_checkpoint
from spaceevo.training.pretrained import pretrained


@dataclass(frozen=True)
class Source:
    """The model to start from.

    Attributes:
        facts: of its card: what tells where it comes from, and what it was searched for.
        mean, std: of the images that it takes, of values from 0 to 1, a channel.
        file: that its weights are in.
        state: its weights, by the names of ``Elastic``; of a model exported here also its quantizers.
    """

    name: str
    facts: dict[str, Any]
    mean: list[float]
    std: list[float]
    file: Path
    graph: Graph
    padding: str
    state: Mapping[str, Tensor]
    quantized: bool

    @staticmethod
    def of(path: Path, data: DataConfig) -> Source:
        """Of ``from=<path>``, for the images of ``data``.

        Raises:
            UserError: it is neither, or the images are not such as it reads.
        """
        source = exported(path) if path.is_dir() else _weights(path, data.image_size)
        x = source.graph.input
        if data.channels != x.channels:
            raise UserError(f"data.channels={data.channels}: must be {x.channels}, which from={path} reads")
        if data.image_size < x.hw:
            raise UserError(f"data.image_size={data.image_size}: must be {x.hw} or more, which from={path} reads")
        return source


def exported(path: Path) -> Source:
    """Of a folder ``<run>/models/<name>``, ``<run>/baselines/<name>`` or ``<run>/finetuned/<name>``.

    Raises:
        UserError: it is no such folder, or the weights it was exported from are not there, or are too old to say what
            network they are of.
    """
    card, folder = read_card(path), path.absolute()
    places = folder / "trained.ckpt", folder.parent.parent / "finished" / f"{folder.name}.ckpt"
    there = next((place for place in places if place.exists()), None)
    if there is None:
        raise UserError(f"from={path}: none of the weights it was exported from is there: {' or '.join(map(str, places))}")
    content = load_checkpoint(there)
    if not isinstance(content, dict) or not {"graph", "padding", "state_dict"} <= set(content):
        raise UserError(f"from={path}: {there} does not say what network it is of; make it again with this version")
    return Source(
        card["name"],
        {key: card[key] for key in ("encoding", "space", "limit_ms", "predicted_ms")},
        card["input"]["mean"],
        card["input"]["std"],
        there,
        graph_of(content["graph"]),
        content["padding"],
        content["state_dict"],
        quantized=True,
    )


def _weights(path: Path, hw: int) -> Source:
    """Of a file of weights, for images of ``hw`` x ``hw``.

    Raises:
        UserError: it is not readable, or of no network that is known; the images are too small.
    """
    found = pretrained(path, hw)
    if hw < REDUCTION:
        raise bad_value("data.image_size", hw, f"{REDUCTION} or more: {found.name} makes images {REDUCTION} times smaller")
    return Source(
        found.name,
        dict(encoding=f"{found.name} {hw}x{hw}", space=None, limit_ms=None, predicted_ms=None),
        list(found.mean),
        list(found.std),
        path,
        found.graph,
        found.padding,
        found.state,
        quantized=False,
    )
