"""A subnet of a search space: its encoding, sampling, mutation and crossover; its op graph and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space.build import add_head, add_stage, add_stem
from spaceevo.space.cost import Cost, graph_cost
from spaceevo.space.graph import Graph, GraphBuilder
from spaceevo.space.published import published_model
from spaceevo.space.searchspace import SearchSpace
from spaceevo.space.stage import BlockConfig, Pick, Stage, of_one_width, one_of, parse_blocks, random_block, stage_of

T = TypeVar("T")


@dataclass(frozen=True)
class Subnet:
    """Stem width, one tuple of blocks for every stage of ``space.all_stages``, and the input resolution; the width of the
    head's first convolution where there are several to choose from, and the depth of a deep stem."""

    space: SearchSpace
    stem_width: int
    stages: tuple[Stage, ...]
    resolution: int
    head_width: int | None = None
    stem_depth: int = 1

    def __str__(self) -> str:
        blocks = [block for stage in self.stages for block in stage]
        depths = [self.stem_depth, *map(len, self.stages)]
        kernels = [self.space.hyperspace.stem.kernel, *(b.kernel for b in blocks)]
        widths = [self.stem_width, *(b.width for b in blocks)]
        expands = [0, *(0 if b.expand is None else b.expand for b in blocks)]
        fields: list[tuple[str, Sequence[float]]] = [("d", depths), ("k", kernels), ("w", widths), ("e", expands)]
        if self.head_width is not None:
            fields.append(("h", [self.head_width]))
        return "_".join(f"{key}{'#'.join(map(str, values))}" for key, values in [*fields, ("r", [self.resolution])])

    @staticmethod
    def parse(space: SearchSpace, text: str) -> Subnet:
        """Read ``d<depths>_k<kernels>_w<widths>_e<expands>_r<resolution>`` (fields over stem and stages), with
        ``_h<width>`` before the resolution where the space has several head widths.

        Raises:
            UserError: which field is wrong, its value, and what is allowed.
        """
        hs = space.hyperspace
        elastic_head = len(hs.head.final_expand) > 1
        fields = _fields(text, elastic_head)
        stem_depth, *depths = fields["d"]
        if len(depths) != len(space.all_stages) or stem_depth not in hs.stem.depths:
            stem = " or ".join(map(str, hs.stem.depths))
            raise UserError(
                f"subnet field d: {len(fields['d'])} depths, must be {stem} and then {len(space.all_stages)}, one a stage"
            )
        for stage, depth in zip(space.all_stages, depths, strict=True):
            one_of(f"d ({stage.name})", depth, stage.depths)
        for key in "kwe":
            if len(fields[key]) != 1 + sum(map(int, depths)):
                raise UserError(f"subnet field {key}: {len(fields[key])} values, must be {1 + int(sum(depths))}, one a block")
        stem_width = int(one_of("w (stem)", fields["w"][0], hs.stem.widths))
        one_of("k (stem)", fields["k"][0], (hs.stem.kernel,))
        one_of("e (stem)", fields["e"][0], (0,))
        for key in "hr" if elastic_head else "r":
            if len(fields[key]) != 1:
                raise UserError(f"subnet field {key}: {len(fields[key])} values, must be one")
        head_width = int(one_of("h", fields["h"][0], hs.head.final_expand)) if elastic_head else None
        resolution = int(one_of("r", fields["r"][0], hs.resolutions))
        stages, at = [], 1
        for stage, depth in zip(space.all_stages, depths, strict=True):
            here = slice(at, at + int(depth))
            stages.append(parse_blocks(stage, fields["k"][here], fields["w"][here], fields["e"][here]))
            at += int(depth)
        return Subnet(space, stem_width, tuple(stages), resolution, head_width, int(stem_depth))

    @staticmethod
    def sample(space: SearchSpace, rng: np.random.Generator, resolution: int | None = None) -> Subnet:
        """A random subnet: every choice uniform."""
        return _make(space, lambda choices: choices[int(rng.integers(len(choices)))], resolution)

    @staticmethod
    def smallest(space: SearchSpace, resolution: int | None = None) -> Subnet:
        """Least of every choice (the sandwich rule's smallest path). Not always the cheapest subnet: a block of another width
        may need no shortcut convolution, and one of expand ratio 1 no expanding one."""
        return _make(space, lambda choices: choices[0] if choices[0] is None else min(choices), resolution)

    @staticmethod
    def largest(space: SearchSpace, resolution: int | None = None) -> Subnet:
        """Most of every choice (the sandwich rule's largest path). Nor is it always the dearest, for the same reasons; what no
        subnet costs more than is the superset graph."""
        return _make(space, lambda choices: choices[0] if choices[0] is None else max(choices), resolution)

    def cost(self) -> Cost:
        """MMACs and parameters of the whole subnet."""
        return subnet_cost(self)

    def mutate(self, rng: np.random.Generator, probability: float = 0.1) -> Subnet:
        """OFA's mutation: every choice is drawn anew with ``probability``; added blocks are random."""
        fresh = Subnet.sample(self.space, rng)

        def keep(old: T, new: T) -> T:
            return new if rng.random() < probability else old

        stages = []
        for stage, old, new in zip(self.space.all_stages, self.stages, fresh.stages, strict=True):
            depth = keep(len(old), stage.depths[int(rng.integers(len(stage.depths)))])
            padded = [*old, *new][:depth] if depth > len(old) else list(old[:depth])
            while len(padded) < depth:
                padded.append(random_block(stage, rng))
            blocks = [
                BlockConfig(*(keep(a, b) for a, b in zip(_fields_of(block), _fields_of(random_block(stage, rng)), strict=True)))  # type: ignore[arg-type]
                for block in padded
            ]
            stages.append(of_one_width(stage, tuple(blocks)))
        stem_width = keep(self.stem_width, fresh.stem_width)
        resolution = keep(self.resolution, fresh.resolution)
        head_width, stem_depth = keep(self.head_width, fresh.head_width), keep(self.stem_depth, fresh.stem_depth)
        return Subnet(self.space, stem_width, tuple(stages), resolution, head_width, stem_depth)

    def crossover(self, other: Subnet, rng: np.random.Generator) -> Subnet:
        """OFA's crossover: every stage, the stem and the resolution from either parent."""

        def either(a: T, b: T) -> T:
            return a if rng.random() < 0.5 else b

        stages = tuple(either(a, b) for a, b in zip(self.stages, other.stages, strict=True))
        return Subnet(
            self.space,
            either(self.stem_width, other.stem_width),
            stages,
            either(self.resolution, other.resolution),
            either(self.head_width, other.head_width),
            either(self.stem_depth, other.stem_depth),
        )


def published_subnet(name: str) -> Subnet:
    """A released model by its name, as a subnet of its space, on ImageNet's images.

    Raises:
        UserError: there is none of that name.
    """
    model = published_model(name)
    return Subnet.parse(SearchSpace.parse(model.space), model.subnet)


def subnet_graph(net: Subnet, superset: bool = False) -> Graph:
    """The whole subnet on ``[B, channels, resolution, resolution]``, to the logits ``[B, classes, 1, 1]``."""
    hs = net.space.hyperspace
    g = GraphBuilder(hs.channels, net.resolution, superset)
    x = add_stem(g, g.x, hs.stem, net.stem_width, net.stem_depth)
    for stage, blocks in zip(net.space.all_stages, net.stages, strict=True):
        x = add_stage(g, x, stage, blocks)
    add_head(g, x, hs, net.head_width)
    return g.graph


def superset_graph(space: SearchSpace) -> Graph:
    """Every op that any subnet of the space has, each at its largest: what a supernet allocates."""
    return subnet_graph(Subnet.largest(space), superset=True)


def subnet_cost(net: Subnet) -> Cost:
    """Of a whole subnet, stem and head included."""
    return graph_cost(subnet_graph(net))


def _fields_of(block: BlockConfig) -> tuple[int, int, float | None]:
    return block.kernel, block.width, block.expand


def _make(space: SearchSpace, pick: Pick, resolution: int | None) -> Subnet:
    hs = space.hyperspace
    stem_width = pick(hs.stem.widths)
    stages = tuple(stage_of(stage, pick) for stage in space.all_stages)
    chosen = resolution or pick(hs.resolutions)
    head_width = pick(hs.head.final_expand) if len(hs.head.final_expand) > 1 else None
    stem_depth = pick(hs.stem.depths) if len(hs.stem.depths) > 1 else hs.stem.depths[0]
    return Subnet(space, stem_width, stages, chosen, head_width, stem_depth)  # type: ignore[arg-type]


def _fields(text: str, elastic_head: bool) -> dict[str, list[float]]:
    parts = text.split("_")
    if [part[:1] for part in parts] != list("dkwehr" if elastic_head else "dkwer"):
        head = "_h<head width>" if elastic_head else ""
        raise UserError(f"subnet={text}: must be d<depths>_k<kernels>_w<widths>_e<expands>{head}_r<resolution>")
    fields = {}
    for part in parts:
        try:
            fields[part[0]] = [float(value) for value in part[1:].split("#")]
        except ValueError:
            raise UserError(f"subnet field {part[0]}: {part[1:]!r} must be numbers joined by #") from None
    return fields
