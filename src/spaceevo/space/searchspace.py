"""A search space as a sequence of elastic stages (paper section 4.3, equation 2) and its mutations (section 4.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space.hyperspace import Hyperspace, load_hyperspace
from spaceevo.space.published import published_space
from spaceevo.space.spec import ElasticStage


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
        """Read ``<hyperspace>-<block types>-<width windows>``, a published name (``spaceevo@vnni``), or the name of a
        hyperspace that holds a single space.

        Raises:
            UserError: which field is wrong, its value, and what is allowed.
        """
        if "@" in text:
            return SearchSpace.parse(published_space(text), hyperspace)
        parts = text.rsplit("-", 2)
        if len(parts) != 3:
            hs = hyperspace if hyperspace is not None and hyperspace.name == text else load_hyperspace(text)
            return only_space(hs)
        hs = hyperspace or load_hyperspace(parts[0])
        if parts[0] != hs.name:
            raise UserError(f"space={text}: hyperspace {parts[0]} is not {hs.name}")
        types = _digits(text, "block types", parts[1], [stage.types for stage in hs.stages])
        windows = _digits(text, "width windows", parts[2], [range(stage.windows) for stage in hs.stages])
        return SearchSpace(hs, types, windows)

    @cached_property
    def stages(self) -> tuple[ElasticStage, ...]:
        """The searched stages, ``stage1`` first; the fixed ``stage0`` is not among them."""
        return tuple(self.hyperspace.elastic(i, t, w) for i, (t, w) in enumerate(zip(self.types, self.windows, strict=True)))

    @cached_property
    def all_stages(self) -> tuple[ElasticStage, ...]:
        """``stage0`` where there is one, then the searched stages."""
        fixed = self.hyperspace.stage0
        if fixed is None:
            return self.stages
        rules = (fixed.forced_residual, fixed.one_width)
        return (ElasticStage("stage0", fixed.block, fixed.widths, fixed.depths, fixed.stride, *rules), *self.stages)

    @property
    def subnets(self) -> int:
        """How many subnets the space holds (input resolutions, stem and head widths included)."""
        hs = self.hyperspace
        count = len(hs.stem.widths) * len(hs.stem.depths) * max(1, len(hs.head.final_expand)) * len(hs.resolutions)
        for stage in self.all_stages:
            count *= stage.subnets
        return count

    @staticmethod
    def sample(hyperspace: Hyperspace, rng: np.random.Generator) -> SearchSpace:
        """A uniformly random search space."""
        types = tuple(stage.types[int(rng.integers(len(stage.types)))] for stage in hyperspace.stages)
        windows = tuple(int(rng.integers(stage.windows)) for stage in hyperspace.stages)
        return SearchSpace(hyperspace, types, windows)

    @staticmethod
    def all(hyperspace: Hyperspace) -> Iterator[SearchSpace]:
        """Every search space of the hyperspace."""
        for types in itertools.product(*(stage.types for stage in hyperspace.stages)):
            for windows in itertools.product(*(range(stage.windows) for stage in hyperspace.stages)):
                yield SearchSpace(hyperspace, types, windows)

    def mutate_type(self, stage: int, rng: np.random.Generator) -> SearchSpace:
        """The space with another block type in ``stage`` (counted from 0): child 1 of section 4.4."""
        return replace(self, types=_other(self.types, stage, self.hyperspace.stages[stage].types, rng))

    def mutate_width(self, stage: int, rng: np.random.Generator) -> SearchSpace:
        """The space with another width window in ``stage`` (counted from 0): child 2 of section 4.4."""
        return replace(self, windows=_other(self.windows, stage, range(self.hyperspace.stages[stage].windows), rng))


def any_space(hs: Hyperspace) -> SearchSpace:
    """The first search space of a hyperspace."""
    return SearchSpace(hs, tuple(stage.types[0] for stage in hs.stages), (0,) * len(hs.stages))


def one_of_each(hs: Hyperspace) -> list[SearchSpace]:
    """Search spaces that together have every block type in every stage that may have it."""
    types = [[stage.types[min(i, len(stage.types) - 1)] for stage in hs.stages] for i in range(len(hs.blocks))]
    return [SearchSpace(hs, tuple(chosen), (0,) * len(hs.stages)) for chosen in types]


def only_space(hs: Hyperspace) -> SearchSpace:
    """The one search space of a hyperspace that has nothing to search (a hand-designed space).

    Raises:
        UserError: it has several.
    """
    if hs.spaces != 1:
        raise UserError(
            f"space={hs.name}: must be <hyperspace>-<block type a stage>-<width window a stage>: "
            f"the hyperspace holds {hs.spaces:,} spaces"
        )
    return any_space(hs)


def _other(genes: tuple[int, ...], at: int, choices: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    """``genes`` with a different value at ``at`` (the same where there is only one choice)."""
    shift = int(rng.integers(1, len(choices))) if len(choices) > 1 else 0
    return (*genes[:at], choices[(choices.index(genes[at]) + shift) % len(choices)], *genes[at + 1 :])


def _digits(text: str, field: str, digits: str, allowed: list[Sequence[int]]) -> tuple[int, ...]:
    if len(digits) != len(allowed) or not (digits.isascii() and digits.isdigit()):
        raise UserError(f"space={text}: {field} {digits!r} must be {len(allowed)} digits, one a stage")
    for i, (digit, choices) in enumerate(zip(digits, allowed, strict=True), start=1):
        if int(digit) not in choices:
            whole = list(choices) == list(range(len(choices))) and len(choices) > 1
            what = f"from 0 to {len(choices) - 1}" if whole else f"one of {', '.join(map(str, choices))}"
            raise UserError(f"space={text}: {field}: stage {i} is {digit}, must be {what}")
    return tuple(map(int, digits))
