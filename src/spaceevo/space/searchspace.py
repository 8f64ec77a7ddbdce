"""A search space as a sequence of elastic stages (paper section 4.3, equation 2) and its mutations (section 4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space.hyperspace import BlockChoice, Hyperspace, load_hyperspace


@dataclass(frozen=True)
class ElasticStage:
    """A block type ``b`` with the configurations ``c`` its blocks choose from (widths, kernels, expands, depths)."""

    name: str
    block: BlockChoice
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    forced_residual: bool = True

    @property
    def subnets(self) -> int:
        """How many sub-stages the stage holds."""
        a_block = len(self.widths) * len(self.block.kernels) * len(self.block.expands)
        return sum(a_block**depth for depth in self.depths)


@dataclass(frozen=True)
class SearchSpace:
    """STEM, one elastic stage per hyperspace stage, HEAD: a block type and a width window per stage."""

    hyperspace: Hyperspace
    types: tuple[int, ...]
    windows: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.hyperspace.name}-{''.join(map(str, self.types))}-{''.join(map(str, self.windows))}"

    @staticmethod
    def parse(text: str, hyperspace: Hyperspace | None = None) -> SearchSpace:
        """Read ``<hyperspace>-<block types>-<width windows>``.

        Raises:
            UserError: which field is wrong, its value, and what is allowed.
        """
        parts = text.rsplit("-", 2)
        if len(parts) != 3:
            raise UserError(f"space={text}: must be <hyperspace>-<block type a stage>-<width window a stage>")
        hs = hyperspace or load_hyperspace(parts[0])
        if parts[0] != hs.name:
            raise UserError(f"space={text}: hyperspace {parts[0]} is not {hs.name}")
        types = _digits(text, "block types", parts[1], [len(hs.blocks)] * len(hs.stages))
        windows = _digits(text, "width windows", parts[2], [stage.windows for stage in hs.stages])
        return SearchSpace(hs, types, windows)

    @cached_property
    def stages(self) -> tuple[ElasticStage, ...]:
        """The searched stages, ``stage1`` first; the fixed ``stage0`` is not among them."""
        return tuple(
            ElasticStage(f"stage{i}", self.hyperspace.blocks[t], spec.window_widths(w), spec.depths, spec.stride)
            for i, (spec, t, w) in enumerate(zip(self.hyperspace.stages, self.types, self.windows, strict=True), start=1)
        )

    @cached_property
    def all_stages(self) -> tuple[ElasticStage, ...]:
        """``stage0`` where there is one, then the searched stages."""
        fixed = self.hyperspace.stage0
        if fixed is None:
            return self.stages
        return (
            ElasticStage("stage0", fixed.block, fixed.widths, fixed.depths, fixed.stride, fixed.forced_residual),
            *self.stages,
        )

    @property
    def subnets(self) -> int:
        """How many subnets the space holds (input resolutions and stem widths included)."""
        count = len(self.hyperspace.stem.widths) * len(self.hyperspace.resolutions)
        for stage in self.all_stages:
            count *= stage.subnets
        return count

    @staticmethod
    def sample(hyperspace: Hyperspace, rng: np.random.Generator) -> SearchSpace:
        """A uniformly random search space."""
        types = tuple(int(rng.integers(len(hyperspace.blocks))) for _ in hyperspace.stages)
        windows = tuple(int(rng.integers(stage.windows)) for stage in hyperspace.stages)
        return SearchSpace(hyperspace, types, windows)

    @staticmethod
    def all(hyperspace: Hyperspace) -> Iterator[SearchSpace]:
        """Every search space of the hyperspace."""
        n = len(hyperspace.stages)
        for index in np.ndindex(*[len(hyperspace.blocks)] * n, *[stage.windows for stage in hyperspace.stages]):
            yield SearchSpace(hyperspace, index[:n], index[n:])

    def mutate_type(self, stage: int, rng: np.random.Generator) -> SearchSpace:
        """The space with another block type in ``stage`` (counted from 0): child 1 of section 4.4."""
        return replace(self, types=_other(self.types, stage, len(self.hyperspace.blocks), rng))

    def mutate_width(self, stage: int, rng: np.random.Generator) -> SearchSpace:
        """The space with another width window in ``stage`` (counted from 0): child 2 of section 4.4."""
        return replace(self, windows=_other(self.windows, stage, self.hyperspace.stages[stage].windows, rng))


def _other(genes: tuple[int, ...], at: int, choices: int, rng: np.random.Generator) -> tuple[int, ...]:
    """``genes`` with a different value at ``at`` (the same where there is only one choice)."""
    shift = int(rng.integers(1, choices)) if choices > 1 else 0
    return (*genes[:at], (genes[at] + shift) % choices, *genes[at + 1 :])


def _digits(text: str, field: str, digits: str, counts: list[int]) -> tuple[int, ...]:
    if len(digits) != len(counts) or not (digits.isascii() and digits.isdigit()):
        raise UserError(f"space={text}: {field} {digits!r} must be {len(counts)} digits, one a stage")
    for i, (digit, count) in enumerate(zip(digits, counts, strict=True), start=1):
        if int(digit) >= count:
            raise UserError(f"space={text}: {field}: stage {i} is {digit}, must be from 0 to {count - 1}")
    return tuple(map(int, digits))
