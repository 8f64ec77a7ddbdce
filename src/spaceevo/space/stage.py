"""The blocks of one elastic stage: what is chosen of it, its encoding, random and extreme sub-stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spaceevo.errors import UserError
from spaceevo.space.spec import ElasticStage


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """One block's choices."""

    kernel: int
    width: int
    expand: float | None

    def __str__(self) -> str:
        return f"{self.kernel}#{self.width}#{self.expand}"


Stage = tuple[BlockConfig, ...]
Pick = Callable[[tuple], object]


def random_block(stage: ElasticStage, rng: np.random.Generator) -> BlockConfig:
    """A block with every choice uniform."""
    return _block(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def random_stage(stage: ElasticStage, rng: np.random.Generator) -> Stage:
    """A sub-stage with every choice uniform, the depth first."""
    return stage_of(stage, lambda choices: choices[int(rng.integers(len(choices)))])


def extreme_stage(stage: ElasticStage, largest: bool) -> Stage:
    """The sub-stage with the least of every choice, or with the most."""
    pick = max if largest else min
    return stage_of(stage, lambda choices: choices[0] if choices[0] is None else pick(choices))


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
    one_of(f"d ({stage.name})", len(blocks), stage.depths)
    kernels, widths = [float(b.kernel) for b in blocks], [float(b.width) for b in blocks]
    return parse_blocks(stage, kernels, widths, [0 if b.expand is None else b.expand for b in blocks])


def parse_blocks(stage: ElasticStage, kernels: Sequence[float], widths: Sequence[float], expands: Sequence[float]) -> Stage:
    """The blocks of a sub-stage, every value checked; an expand of 0 stands for none."""
    blocks = []
    for k, w, e in zip(kernels, widths, expands, strict=True):
        kernel = one_of(f"k ({stage.name})", k, stage.block.kernels)
        width = one_of(f"w ({stage.name})", w, stage.widths)
        if stage.block.expands == (None,):
            one_of(f"e ({stage.name}, {stage.block.type})", e, (0,))
            expand = None
        else:
            expand = float(one_of(f"e ({stage.name})", e, stage.block.expands))
        blocks.append(BlockConfig(int(kernel), int(width), expand))
    if stage.one_width and len({b.width for b in blocks}) > 1:
        raise UserError(f"subnet field w ({stage.name}): {'#'.join(str(b.width) for b in blocks)} must be one width a stage")
    return tuple(blocks)


def _block(stage: ElasticStage, pick: Pick) -> BlockConfig:
    return BlockConfig(pick(stage.block.kernels), pick(stage.widths), pick(stage.block.expands))  # type: ignore[arg-type]


def stage_of(stage: ElasticStage, pick: Pick) -> Stage:
    """The sub-stage whose choices ``pick`` makes, the depth first."""
    depth = pick(stage.depths)
    return of_one_width(stage, tuple(_block(stage, pick) for _ in range(depth)))  # type: ignore[call-overload]


def of_one_width(stage: ElasticStage, blocks: Stage) -> Stage:
    """The first block's width for all, where the stage wants one."""
    return tuple(replace(b, width=blocks[0].width) for b in blocks) if stage.one_width else blocks


def one_of(field: str, value: float, allowed: tuple) -> float:
    """``value``, if it is among the ``allowed``.

    Raises:
        UserError: the subnet's field, the value and what is allowed.
    """
    if value not in allowed:
        raise UserError(f"subnet field {field}: {value:g} must be one of {', '.join(map(str, allowed))}")
    return value
