"""A dense table made of a sparse one: many sub-stages for every key, their NSR by a smooth model, their ms exactly.

Six rows a key leave it to the luck of which six which space is best. The same sub-stages stand for every key here: evenly
spread ones (``points.py``), the same for every block type, width window and resolution.
"""

from __future__ import annotations

import numpy as np

from spaceevo.evolution.additive import BlockCost, block_costs
from spaceevo.evolution.points import Chosen, choose, points
from spaceevo.evolution.smooth import SmoothNsr, features_of
from spaceevo.evolution.table import Ends, Key, Rows, Table, assemble
from spaceevo.space import ElasticStage, stage_input_hw

SUB_STAGES = 256  # a key; a power of 2, as the points want it


class DenseRows:
    """The dense table's sub-stages and their ms; ``table(rows)`` judges them by a sparse table's rows."""

    def __init__(self, sparse: Table, block_ms: BlockCost, ends: Ends) -> None:
        """``block_ms``: the predicted ms of a block; ``ends``: of what surrounds the stages."""
        hs, self._ends, self.hyperspace = sparse.hyperspace, ends, sparse.hyperspace
        parts, deepest = [], max(max(spec.depths) for spec in hs.stages)
        for stage, spec in enumerate(hs.stages):
            spread = points(max(spec.depths), SUB_STAGES, 0)
            for block in spec.types:
                elastic, inputs = hs.elastic(stage, block), hs.input_widths(stage)
                sizes = [stage_input_hw(hs, r)[stage] for r in sparse.resolutions]
                costs = block_costs(elastic, inputs, sizes, block_ms)
                for window in range(spec.windows):
                    chosen = choose(spread, elastic, len(inputs), window, spec.window)
                    for i, resolution in enumerate(sparse.resolutions):
                        key, price = (stage, block, window, resolution), [part[i] for part in costs]
                        parts.append(_columns(key, elastic, inputs, sizes[i], chosen, price, deepest))
        self._columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._features = features_of(self._columns["key"][:, 3], self._columns["cin"], self._columns["blocks"])

    def table(self, rows: Rows) -> Table:
        """The dense table, with the NSR that models of ``rows`` predict."""
        key, nsr = self._columns["key"], np.empty(len(self._features))
        for stage in range(len(self.hyperspace.stages)):
            here, mine = key[:, 0] == stage, rows.key[:, 0] == stage
            features = features_of(rows.key[mine, 3], rows.cin[mine], rows.blocks[mine])
            model = SmoothNsr(rows.key[mine, 1], features, rows.nsr[mine])
            nsr[here] = model.nsr(key[here, 1], self._features[here])
        return assemble(self.hyperspace, {**self._columns, "nsr": nsr}, self._ends)


def _columns(
    key: Key, stage: ElasticStage, inputs: tuple[int, ...], hw: int, chosen: Chosen, costs: list[np.ndarray], deepest: int
) -> dict[str, np.ndarray]:
    """The key's rows as the columns of ``Rows``; ``costs``: of a first block and of one after it, as ``block_costs`` has
    them; ``deepest``: the blocks of any stage's deepest sub-stage."""
    cin, depth, kernel, width, expand = chosen
    first, rest = costs
    ms = first[cin, kernel[:, 0], width[:, 0], expand[:, 0]]
    for i in range(1, kernel.shape[1]):
        ms = ms + rest[width[:, i - 1], kernel[:, i], width[:, i], expand[:, i]] * (depth > i)
    expands = [np.nan if e is None else e for e in stage.block.expands]
    choices = (stage.block.kernels, stage.widths, expands)
    here = np.arange(kernel.shape[1]) < depth[:, None]
    blocks = np.zeros((len(ms), deepest, 3), np.float32)
    for field, (choice, index) in enumerate(zip(choices, (kernel, width, expand), strict=True)):
        blocks[:, : kernel.shape[1], field] = np.where(here, np.array(choice, np.float32)[index], 0)
    unknown = np.full(len(ms), np.nan)
    return dict(
        key=np.tile(np.array(key, np.int16), (len(ms), 1)),
        cin=np.array(inputs)[cin],
        hw=np.full(len(ms), hw),
        blocks=blocks,
        mmacs=unknown,
        mparams=unknown,
        ms=ms,
    )
