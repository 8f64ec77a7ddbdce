"""The latency of whole blocks, where it is known: of a device whose published tables are sums over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from spaceevo.evolution import BlockLatency
from spaceevo.evolution.block_latency import scaled
from spaceevo.space import BlockChoice, BlockConfig, ElasticStage, Hyperspace, stage_input_hw

#: The columns of a key, and how many values each may have: together they are one whole number.
COLUMNS = {"kind": 32, "hw": 512, "cin": 4096, "kernel": 16, "width": 4096, "expand": 2048, "stride": 4}


@dataclass
class BlockTable:
    """``ms`` ``[blocks]`` of blocks of ``kinds`` (block type and activation). ``keys`` ``[blocks, 7]``: a kind's index, the
    input's size and width, kernel, width, expand ratio in hundredths (0: none) and stride."""

    kinds: list[str]
    keys: np.ndarray
    ms: np.ndarray

    def block_ms(self, stage: ElasticStage, block: BlockConfig, cin: int, hw: int) -> float | None:
        """Of a block of ``stage``, on an input ``[B, cin, hw, hw]``; None where it is not known."""
        kind = self._kinds.get(kind_of(stage.block))
        if kind is None:
            return None
        expand = 0 if block.expand is None else round(100 * block.expand)
        return self._known.get(_number((kind, hw, cin, block.kernel, block.width, expand, stage.stride)))

    @cached_property
    def _kinds(self) -> dict[str, int]:
        return {kind: i for i, kind in enumerate(self.kinds)}

    @cached_property
    def _known(self) -> dict[int, float]:
        return dict(zip(_number(tuple(self.keys.T.astype(np.int64))).tolist(), self.ms.tolist(), strict=True))

    def as_data(self) -> dict[str, Any]:
        """Plain data that :meth:`of_data` reads."""
        held = io.BytesIO()
        np.savez_compressed(held, keys=self.keys.astype(np.int16), ms=self.ms.astype(np.float32))
        return {"kinds": self.kinds, "npz": base64.b64encode(held.getvalue()).decode()}

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> BlockTable:
        """Raises:
        ValueError, KeyError: not such data.
        """
        with np.load(io.BytesIO(base64.b64decode(data["npz"])), allow_pickle=False) as arrays:
            keys, ms = arrays["keys"].astype(np.int64), arrays["ms"].astype(float)
        if keys.shape != (len(ms), len(COLUMNS)):
            raise ValueError(f"keys {keys.shape} of {len(ms)} blocks")
        return BlockTable(list(data["kinds"]), keys, ms)


def table_of(latency: BlockLatency) -> BlockTable:
    """What ``latency`` says of every block of its hyperspace."""
    hs, blocks = latency.hyperspace, all_blocks(latency.hyperspace)
    return BlockTable([kind_of(choice) for choice in hs.blocks], scaled(blocks), latency.ms(blocks))


def all_blocks(hs: Hyperspace) -> np.ndarray:
    """Every block of every stage of the hyperspace, once, as ``evolution.block_latency.BLOCK``: ``[blocks, 7]``."""
    parts: list[tuple[float, ...]] = []
    for i, spec in enumerate(hs.stages):
        sizes = {stage_input_hw(hs, r)[i] for r in hs.resolutions}
        after = {-(-hw // spec.stride) for hw in sizes}
        for kind in spec.types:
            choice = hs.blocks[kind]
            expands = [0.0 if e is None else e for e in choice.expands]
            own = (choice.kernels, spec.widths, expands)
            parts += product([kind], sizes, hs.input_widths(i), *own, [spec.stride])
            parts += product([kind], after, spec.widths, *own, [1])
    return np.unique(np.array(parts, np.float64), axis=0)


def kind_of(choice: BlockChoice) -> str:
    """Block type and activation."""
    return f"{choice.type} {choice.act}"


def _number(columns: Any) -> Any:
    """A key's columns as one whole number, or arrays of them."""
    total: Any = 0
    for column, count in zip(columns, COLUMNS.values(), strict=True):
        total = total * count + column
    return total
