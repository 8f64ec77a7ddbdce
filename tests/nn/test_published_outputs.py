"""Our supernet computes what the authors' does: their outputs for made-up weights, stage by stage."""

from __future__ import annotations

import csv
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spaceevo.nn.elastic import Elastic, Stats
from spaceevo.space import Graph, SearchSpace, Subnet, subnet_graph, superset_graph

FORMAT = Path(__file__).resolve().parents[2].parent / "shared" / "published" / "checkpoint_format"
pytestmark = pytest.mark.skipif(not FORMAT.is_dir(), reason=f"the published checkpoint format is not at {FORMAT}")

#: Their names of a block's convolutions and ours; a convolution's weights and its BatchNorm lie below the same name.
CONVOLUTIONS = {
    "point_conv1": ("expand", "pointwise1"),
    "depth_conv": ("depthwise",),
    "depth_conv1": ("depthwise1",),
    "depth_conv2": ("depthwise2",),
    "point_conv2": ("project", "pointwise2"),
    "conv1": ("reduce",),
    "conv2": ("conv",),
    "conv3": ("project",),
    "fused_conv": ("expand",),
    "point_conv": ("project",),
    "downsample": ("shortcut_conv",),
}
OUTSIDE = {"first_conv": "stem", "final_expand": "head.final_expand", "feature_mix": "head.feature_mix"}


def made_up(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a tensor of theirs, as the published README defines it."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith(("norm.weight", "norm.running_var")):
        return rng.uniform(0.8, 1.2, shape)
    if key.endswith(("norm.bias", "norm.running_mean")):
        return rng.normal(0, 0.1, shape)
    if key.endswith(".weight"):
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return rng.normal(0, 0.05, shape)


@cache
def their_weights(space: str) -> dict[str, Tensor]:
    with open(FORMAT / f"{space}.csv") as file:
        rows = [(row["key"], row["shape"]) for row in csv.DictReader(file)]
    shapes = {key: tuple(map(int, shape.split("x"))) for key, shape in rows if shape}
    wanted = [key for key in shapes if not key.endswith((".sa", ".sw", ".beta"))]
    return {key: torch.tensor(made_up(key, shapes[key]), dtype=torch.float32) for key in wanted}


def our_name(key: str, known: dict[str, object]) -> list[tuple[str, str]]:
    """Our ops that a tensor of theirs belongs to, and what it is there."""
    _, stage, _, index, *path, leaf = key.split(".")
    norm = path[-1] == "norm"
    if stage == "logits":
        return [("classifier", leaf)]
    if stage in OUTSIDE:
        return [(OUTSIDE[stage], f"norm.{leaf}" if norm else leaf)]
    if path[0] == "se":
        return [(f"{stage}.{index}.se.{'reduce' if path[2] == 'reduce' else 'gate'}", leaf)]
    names = [f"{stage}.{index}.{name}" for name in CONVOLUTIONS[path[0]]]
    if path[0] == "depth_conv" and f"{names[0]}0" in known:  # a stack: one BatchNorm, whichever convolution ends it
        number = path[-1].removeprefix("dwconv")
        names = [f"{names[0]}{n}" for n in range(3) if f"{names[0]}{n}" in known and (norm or str(n) == number)]
    return [(name, f"norm.{leaf}" if norm else leaf) for name in names if name in known]


@torch.no_grad()
def load(net: Elastic, weights: dict[str, Tensor]) -> Stats:
    """Copy the leading slices of their tensors into ``net``; returns the stored BatchNorm statistics."""
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        for name, what in our_name(key, net.ops_by_name):  # type: ignore[arg-type]
            parameters = net.ops_by_name[name]
            if what in ("norm.running_mean", "norm.running_var"):
                moments.setdefault(name, {})[what] = value
                continue
            attribute = {"weight": "weight", "norm.weight": "gain", "norm.bias": "shift", "bias": "shift"}[what]
            target = getattr(parameters, attribute)
            value = value[:, :, None, None] if value.dim() == 2 else value
            target.copy_(value[tuple(slice(size) for size in target.shape)])
    return {name: (m["norm.running_mean"], m["norm.running_var"]) for name, m in moments.items()}


def leading(stats: Stats, graph: Graph) -> Stats:
    return {op.name: (stats[op.name][0][: op.cout], stats[op.name][1][: op.cout]) for op in graph.ops if op.norm}


def cases() -> list[tuple[str, str]]:
    if not FORMAT.is_dir():
        return [("none", "none")]
    outputs = json.loads((FORMAT / "outputs.json").read_text())
    few = {"SEQnet@vnni-A0", "random0"}
    return [
        pytest.param(space, name, marks=() if name in few else pytest.mark.slow)  # type: ignore[misc]
        for space, modes in outputs.items()
        for name in modes["fp32"]
    ]


@pytest.mark.parametrize(("space", "name"), cases())
@torch.no_grad()
def test_subnets_of_the_published_spaces_compute_what_the_authors_code_does(space: str, name: str) -> None:
    expected = json.loads((FORMAT / "outputs.json").read_text())[space]["fp32"][name]
    subnet = Subnet.parse(SearchSpace.parse(space), expected["subnet"])
    graph = subnet_graph(subnet)
    net = Elastic(superset_graph(subnet.space))
    stats = leading(load(net, their_weights(space)), graph)
    r = subnet.resolution
    x = torch.tensor(np.random.default_rng(r).normal(size=(2, 3, r, r)), dtype=torch.float32)
    record: dict[str, Tensor] = {}
    logits = net(x, graph, stats=stats, record=record).flatten(1)
    last = {op.name.split(".")[0]: op.name for op in graph.ops}
    ours = {"first_conv": "stem"} | {stage: last[stage] for stage in expected["stages"] if stage.startswith("stage")}
    for stage, op in ours.items():
        y, theirs = record[op], expected["stages"][stage]
        assert list(y.shape) == theirs["shape"], stage
        tolerance = 1e-3 * theirs["std"]
        assert float(y.mean()) == pytest.approx(theirs["mean"], abs=tolerance), stage
        assert float(y.std(correction=0)) == pytest.approx(theirs["std"], abs=tolerance), stage
        assert y.flatten()[:4].tolist() == pytest.approx(theirs["first"], abs=tolerance), stage
    theirs = expected["stages"]["logits"]
    assert float(logits.std(correction=0)) == pytest.approx(theirs["std"], abs=1e-3 * theirs["std"])
    assert logits.flatten()[:4].tolist() == pytest.approx(theirs["first"], abs=1e-3 * theirs["std"])
