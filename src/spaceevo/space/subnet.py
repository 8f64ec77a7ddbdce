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
    """Stem width, one tuple of blocks for every stage of ``space.all_stages``, and the input resolution."""

    space: SearchSpace
    stem_width: int
    stages: tuple[Stage, ...]
    resolution: int

    def __str__(self) -> str:
        blocks = [block for stage in self.stages for block in stage]
        depths = [1, *map(len, self.stages)]
        kernels = [self.space.hyperspace.stem.kernel, *(b.kernel for b in blocks)]
        widths = [self.stem_width, *(b.width for b in blocks)]
        expands = [0, *(0 if b.expand is None else b.expand for b in blocks)]
        fields: list[tuple[str, Sequence[float]]] = [("d", depths), ("k", kernels), ("w", widths), ("e", expands)]
        return "_".join(f"{key}{'#'.join(map(str, values))}" for key, values in fields) + f"_r{self.resolution}"

    @staticmethod
    def parse(space: SearchSpace, text: str) -> Subnet:
        """Read ``d<depths>_k<kernels>_w<widths>_e<expands>_r<resolution>`` (fields over stem and stages).

        Raises:
            UserError: which field is wrong, its value, and what is allowed.
        """
        fields = _fields(text)
        depths = fields["d"][1:]
        if len(depths) != len(space.all_stages) or fields["d"][0] != 1:
            raise UserError(
                f"subnet field d: {len(fields['d'])} depths, must be 1 and then {len(space.all_stages)}, one a stage"
            )
        for stage, depth in zip(space.all_stages, depths, strict=True):
            _one_of(f"d ({stage.name})", depth, stage.depths)
        for key in "kwe":
            if len(fields[key]) != 1 + sum(map(int, depths)):
                raise UserError(f"subnet field {key}: {len(fields[key])} values, must be {1 + int(sum(depths))}, one a block")
        hs = space.hyperspace
        stem_width = int(_one_of("w (stem)", fields["w"][0], hs.stem.widths))
        _one_of("k (stem)", fields["k"][0], (hs.stem.kernel,))
        if len(fields["r"]) != 1:
            raise UserError(f"subnet field r: {len(fields['r'])} values, must be one resolution")
        resolution = int(_one_of("r", fields["r"][0], hs.resolutions))
        stages, at = [], 1
        for stage, depth in zip(space.all_stages, depths, strict=True):
            blocks = []
            for _ in range(int(depth)):
                kernel = _one_of(f"k ({stage.name})", fields["k"][at], stage.block.kernels)
                width = _one_of(f"w ({stage.name})", fields["w"][at], stage.widths)
                expand = None
                if stage.block.expands != (None,):
                    expand = float(_one_of(f"e ({stage.name})", fields["e"][at], stage.block.expands))
                blocks.append(BlockConfig(int(kernel), int(width), expand))
                at += 1
            stages.append(tuple(blocks))
        return Subnet(space, stem_width, tuple(stages), resolution)

    @staticmethod
    def sample(space: SearchSpace, rng: np.random.Generator, resolution: int | None = None) -> Subnet:
        """A random subnet: every choice uniform."""
        return _make(space, lambda choices: choices[int(rng.integers(len(choices)))], resolution)

    @staticmethod
    def smallest(space: SearchSpace, resolution: int | None = None) -> Subnet:
        """Least of every choice (the sandwich rule's smallest path)."""
        return _make(space, lambda choices: choices[0] if choices[0] is None else min(choices), resolution)

    @staticmethod
    def largest(space: SearchSpace, resolution: int | None = None) -> Subnet:
        """Most of every choice (the sandwich rule's largest path)."""
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
            stages.append(tuple(blocks))
        stem_width = keep(self.stem_width, fresh.stem_width)
        resolution = keep(self.resolution, fresh.resolution)
        return replace(self, stem_width=stem_width, stages=tuple(stages), resolution=resolution)

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
        )


def random_block(stage: ElasticStage, rng: np.random.Generator) -> BlockConfig:
    """A block with every choice uniform."""
    return _block(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def random_stage(stage: ElasticStage, rng: np.random.Generator) -> Stage:
    """A sub-stage with every choice uniform, the depth first."""
    return _stage(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def extreme_stage(stage: ElasticStage, largest: bool) -> Stage:
    """The smallest or largest sub-stage."""
    pick = max if largest else min
    return _stage(stage, lambda choices: choices[0] if choices[0] is None else pick(choices))


def format_stage(stage: Stage) -> str:
    """``k#w#e_k#w#e...``, the tables' encoding of a sub-stage."""
    return "_".join(map(str, stage))


def parse_stage(text: str) -> Stage:
    """Read ``k#w#e_k#w#e...``.

    Raises:
        UserError: the block that is not of that form.
    """
    blocks = []
    for part in text.split("_"):
        try:
            kernel, width, expand = part.split("#")
            blocks.append(BlockConfig(int(kernel), int(width), None if expand == "None" else float(expand)))
        except ValueError:
            raise UserError(f"sub-stage {text}: block {part!r} must be kernel#width#expand") from None
    return tuple(blocks)


def _block(stage: ElasticStage, pick: Pick) -> BlockConfig:
    return BlockConfig(pick(stage.block.kernels), pick(stage.widths), pick(stage.block.expands))  # type: ignore[arg-type]


def _stage(stage: ElasticStage, pick: Pick) -> Stage:
    depth = pick(stage.depths)
    return tuple(_block(stage, pick) for _ in range(depth))  # type: ignore[call-overload]


def _make(space: SearchSpace, pick: Pick, resolution: int | None) -> Subnet:
    hs = space.hyperspace
    stem_width = pick(hs.stem.widths)
    stages = tuple(_stage(stage, pick) for stage in space.all_stages)
    return Subnet(space, stem_width, stages, resolution or pick(hs.resolutions))  # type: ignore[arg-type]


def _fields_of(block: BlockConfig) -> tuple[int, int, float | None]:
    return block.kernel, block.width, block.expand


def _fields(text: str) -> dict[str, list[float]]:
    parts = text.split("_")
    if [part[:1] for part in parts] != list("dkwer"):
        raise UserError(f"subnet={text}: must be d<depths>_k<kernels>_w<widths>_e<expands>_r<resolution>")
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
