"""A subnet of a search space: its encoding, sampling, mutation and crossover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space.searchspace import ElasticStage, SearchSpace


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """One block's choices."""

    kernel: int
    width: int
    expand: float | None

    def __str__(self) -> str:
        return f"{self.kernel}#{self.width}#{self.expand}"


if TYPE_CHECKING:
    from spaceevo.space.cost import Cost

Stage = tuple[BlockConfig, ...]
Pick = Callable[[tuple], object]
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
            _one_of(f"d ({stage.name})", depth, stage.depths)
        for key in "kwe":
            if len(fields[key]) != 1 + sum(map(int, depths)):
                raise UserError(f"subnet field {key}: {len(fields[key])} values, must be {1 + int(sum(depths))}, one a block")
        stem_width = int(_one_of("w (stem)", fields["w"][0], hs.stem.widths))
        _one_of("k (stem)", fields["k"][0], (hs.stem.kernel,))
        _one_of("e (stem)", fields["e"][0], (0,))
        for key in "hr" if elastic_head else "r":
            if len(fields[key]) != 1:
                raise UserError(f"subnet field {key}: {len(fields[key])} values, must be one")
        head_width = int(_one_of("h", fields["h"][0], hs.head.final_expand)) if elastic_head else None
        resolution = int(_one_of("r", fields["r"][0], hs.resolutions))
        stages, at = [], 1
        for stage, depth in zip(space.all_stages, depths, strict=True):
            here = slice(at, at + int(depth))
            stages.append(_parse_blocks(stage, fields["k"][here], fields["w"][here], fields["e"][here]))
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
        from spaceevo.space.cost import subnet_cost

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
            stages.append(_of_one_width(stage, tuple(blocks)))
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


def random_block(stage: ElasticStage, rng: np.random.Generator) -> BlockConfig:
    """A block with every choice uniform."""
    return _block(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def random_stage(stage: ElasticStage, rng: np.random.Generator) -> Stage:
    """A sub-stage with every choice uniform, the depth first."""
    return _stage(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def extreme_stage(stage: ElasticStage, largest: bool) -> Stage:
    """The sub-stage with the least of every choice, or with the most."""
    pick = max if largest else min
    return _stage(stage, lambda choices: choices[0] if choices[0] is None else pick(choices))


def format_stage(stage: Stage) -> str:
    """``k#w#e_k#w#e...``, the tables' encoding of a sub-stage."""
    return "_".join(map(str, stage))


def parse_stage(text: str, stage: ElasticStage | None = None) -> Stage:
    """Read ``k#w#e_k#w#e...``; with ``stage``, only what that stage holds.

    Raises:
        UserError: the block that is not of that form; with ``stage``, the field that it has not.
    """
    blocks = []
    for part in text.split("_"):
        try:
            kernel, width, expand = part.split("#")
            blocks.append(BlockConfig(int(kernel), int(width), None if expand == "None" else float(expand)))
        except ValueError:
            raise UserError(f"sub-stage {text}: block {part!r} must be kernel#width#expand") from None
    if stage is None:
        return tuple(blocks)
    _one_of(f"d ({stage.name})", len(blocks), stage.depths)
    kernels, widths = [float(b.kernel) for b in blocks], [float(b.width) for b in blocks]
    return _parse_blocks(stage, kernels, widths, [0 if b.expand is None else b.expand for b in blocks])


def _parse_blocks(stage: ElasticStage, kernels: Sequence[float], widths: Sequence[float], expands: Sequence[float]) -> Stage:
    """The blocks of a sub-stage, every value checked; an expand of 0 stands for none."""
    blocks = []
    for k, w, e in zip(kernels, widths, expands, strict=True):
        kernel = _one_of(f"k ({stage.name})", k, stage.block.kernels)
        width = _one_of(f"w ({stage.name})", w, stage.widths)
        if stage.block.expands == (None,):
            _one_of(f"e ({stage.name}, {stage.block.type})", e, (0,))
            expand = None
        else:
            expand = float(_one_of(f"e ({stage.name})", e, stage.block.expands))
        blocks.append(BlockConfig(int(kernel), int(width), expand))
    if stage.one_width and len({b.width for b in blocks}) > 1:
        raise UserError(f"subnet field w ({stage.name}): {'#'.join(str(b.width) for b in blocks)} must be one width a stage")
    return tuple(blocks)


def _block(stage: ElasticStage, pick: Pick) -> BlockConfig:
    return BlockConfig(pick(stage.block.kernels), pick(stage.widths), pick(stage.block.expands))  # type: ignore[arg-type]


def _stage(stage: ElasticStage, pick: Pick) -> Stage:
    depth = pick(stage.depths)
    return _of_one_width(stage, tuple(_block(stage, pick) for _ in range(depth)))  # type: ignore[call-overload]


def _of_one_width(stage: ElasticStage, blocks: Stage) -> Stage:
    """The first block's width for all, where the stage wants one."""
    return tuple(replace(b, width=blocks[0].width) for b in blocks) if stage.one_width else blocks


def _make(space: SearchSpace, pick: Pick, resolution: int | None) -> Subnet:
    hs = space.hyperspace
    stem_width = pick(hs.stem.widths)
    stages = tuple(_stage(stage, pick) for stage in space.all_stages)
    chosen = resolution or pick(hs.resolutions)
    head_width = pick(hs.head.final_expand) if len(hs.head.final_expand) > 1 else None
    stem_depth = pick(hs.stem.depths) if len(hs.stem.depths) > 1 else hs.stem.depths[0]
    return Subnet(space, stem_width, stages, chosen, head_width, stem_depth)  # type: ignore[arg-type]


def _fields_of(block: BlockConfig) -> tuple[int, int, float | None]:
    return block.kernel, block.width, block.expand


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


def _one_of(field: str, value: float, allowed: tuple) -> float:
    if value not in allowed:
        raise UserError(f"subnet field {field}: {value:g} must be one of {', '.join(map(str, allowed))}")
    return value
