"""The accuracy look-up table (paper section 4.5, step 2): quantized NSR of sampled sub-stages of every BKD student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spaceevo.nn.elastic import Quantizer
from spaceevo.nn.evaluate import calibrate
from spaceevo.nn.nsr import nsr_loss
from spaceevo.space import ElasticStage, Graph, StageSpec, format_stage, random_stage, row_cost
from spaceevo.training.bkd import Student
from spaceevo.training.teacher import Teacher

Row = dict[str, Any]


@torch.no_grad()
def boundary_features(
    teacher: Teacher, images: Tensor, resolutions: tuple[int, ...], resize: Callable
) -> dict[int, list[Tensor]]:
    """The teacher's features at every boundary, per resolution."""
    return {r: teacher.features(resize(images, r)) for r in resolutions}


@torch.no_grad()
def tabulate(
    student: Student,
    spec: StageSpec,
    samples: int,
    calibration: dict[int, list[Tensor]],
    validation: dict[int, list[Tensor]],
    variance: Tensor,
    quantizer: Quantizer,
    stage_ms: Callable[[Graph], float],
    seed: int,
) -> list[Row]:
    """Rows of one (stage, block type): ``samples`` distinct sub-stages a width window and resolution.

    A row's sub-stage has its BatchNorm statistics recalibrated on the calibration features, and its NSR is measured
    on the validation features, fake-quantized. ``ms`` is the predictor's sum over the sub-stage's ops.
    """
    s = student.spec
    rows = []
    for window in range(spec.windows):
        elastic = replace(s.elastic, widths=spec.window_widths(window))
        for resolution in calibration:
            rng = np.random.default_rng([seed, s.stage, s.block, window, resolution])
            source, target = validation[resolution][s.stage - 1], validation[resolution][s.stage]
            hw = source.shape[-1]
            for cin, blocks in _distinct(elastic, s.input_widths, samples, rng):
                graph = student.graph(cin, blocks, hw)
                entered = student.enter_stage(calibration[resolution][s.stage - 1], cin)
                stats = calibrate(student.body, graph, [entered], quantizer)
                nsr = float(nsr_loss(student(source, graph, quantizer, stats), target, variance))
                cost = row_cost(graph)
                rows.append(
                    dict(
                        stage=s.stage,
                        type=s.block,
                        window=window,
                        cin=cin,
                        hw=hw,
                        resolution=resolution,
                        config=format_stage(blocks),
                        nsr=nsr,
                        mmacs=cost.mmacs,
                        params=cost.params,
                        ms=stage_ms(graph),
                    )
                )
    return rows


def _distinct(elastic: ElasticStage, input_widths: tuple[int, ...], count: int, rng: np.random.Generator) -> list:
    """Up to ``count`` different (input width, sub-stage) pairs."""
    found: dict[tuple, None] = {}
    for _ in range(20 * count):
        found[(int(rng.choice(input_widths)), random_stage(elastic, rng))] = None
        if len(found) == count:
            break
    return list(found)
