"""Sub-stages that are spread evenly: Sobol's points of the unit cube, a coordinate a choice.

Every choice is as frequent as in a random subnet, the depth first and then the blocks, but a few points leave fewer gaps
than as many random ones.
"""

from __future__ import annotations

import numpy as np

from spaceevo.space import BlockConfig, ElasticStage, Stage

#: The input width's index and the depth ``[N]``; of every block ``[N, deepest]`` the indices of kernel, width (among all of the
#: stage's) and expand.
Chosen = tuple[np.ndarray, ...]


def points(deepest: int, count: int, seed: int) -> np.ndarray:
    """``[count, 2 + 3 * deepest]`` in [0, 1): input width, depth, and kernel, width and expand of every block."""
    from scipy.stats.qmc import Sobol

    power = max(count - 1, 1).bit_length()  # of two they are balanced
    return Sobol(2 + 3 * deepest, seed=seed).random_base2(power)[:count]


def choose(spread: np.ndarray, stage: ElasticStage, inputs: int, window: int, wide: int) -> Chosen:
    """What ``points`` stand for in a stage with all of its widths, of which ``wide`` from the ``window``-th on are chosen from;
    ``inputs``: how many input widths there are."""
    blocks = spread[:, 2:].reshape(len(spread), -1, 3)
    kernel, width, expand = (
        (blocks[:, :, i] * count).astype(int)
        for i, count in enumerate((len(stage.block.kernels), wide, len(stage.block.expands)))
    )
    if stage.one_width:
        width = np.repeat(width[:, :1], width.shape[1], 1)
    cin, depth = ((spread[:, i] * count).astype(int) for i, count in enumerate((inputs, len(stage.depths))))
    return cin, np.array(stage.depths)[depth], kernel, window + width, expand


def sub_stages(chosen: Chosen, stage: ElasticStage, inputs: tuple[int, ...]) -> list[tuple[int, Stage]]:
    """Input width and blocks of each."""
    choices = stage.block.kernels, stage.widths, stage.block.expands

    def block(indices: np.ndarray) -> BlockConfig:
        kernel, width, expand = (c[i] for c, i in zip(choices, indices.tolist(), strict=True))
        return BlockConfig(kernel, width, expand)

    cin, depth, *fields = chosen
    blocks = np.stack(fields, 2)
    return [
        (inputs[i], tuple(map(block, each[:deep]))) for i, deep, each in zip(cin.tolist(), depth.tolist(), blocks, strict=True)
    ]
