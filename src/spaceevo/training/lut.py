"""The accuracy look-up table (paper section 4.5, step 2): quantized NSR of sampled sub-stages of every BKD student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spaceevo.nn.elastic import Quantizer, resize
from spaceevo.nn.evaluate import ImageSource, calibrate
from spaceevo.nn.nsr import nsr_loss
from spaceevo.space import ElasticStage, Graph, StageSpec, format_stage, random_stage, row_cost
from spaceevo.training.bkd import Student
from spaceevo.training.teacher import Teacher

Row = dict[str, Any]


BATCH = 128  # images whose features are in memory at once


class BoundaryFeatures:
    """The teacher's features of ``images``, batch after batch; a set of one batch runs through the teacher once."""

    def __init__(self, teacher: Teacher, images: ImageSource, resolutions: tuple[int, ...]) -> None:
        self.images, self.resolutions = images, resolutions

        @lru_cache(len(resolutions))
        @torch.no_grad()
        def features(resolution: int, start: int) -> list[Tensor]:
            return teacher.features(resize(images[start : start + BATCH], resolution))

        self._features = features

    def around(self, stage: int, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Input and output ``[B, C, H, W]`` of the teacher's ``stage`` (from 1), batch after batch."""
        for start in range(0, len(self.images), BATCH):
            features = self._features(resolution, start)
            yield features[stage - 1], features[stage]


@torch.no_grad()
def tabulate(
    student: Student,
    spec: StageSpec,
    samples: int,
    calibration: BoundaryFeatures,
    validation: BoundaryFeatures,
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
        for resolution in calibration.resolutions:
            rng = np.random.default_rng([seed, s.stage, s.block, window, resolution])
            sources = [source for source, _ in calibration.around(s.stage, resolution)]
            hw = sources[0].shape[-1]
            sampled = _distinct(elastic, s.input_widths, samples, rng)
            graphs = [student.graph(cin, blocks, hw) for cin, blocks in sampled]
            recalibrated = [
                calibrate(student.body, graph, (student.enter_stage(source, cin) for source in sources), quantizer)
                for graph, (cin, _) in zip(graphs, sampled, strict=True)
            ]
            noise = np.zeros(len(sampled))
            for source, target in validation.around(s.stage, resolution):
                for i, (graph, stats) in enumerate(zip(graphs, recalibrated, strict=True)):
                    noise[i] += len(source) * float(nsr_loss(student(source, graph, quantizer, stats), target, variance))
            for graph, (cin, blocks), nsr in zip(graphs, sampled, noise / len(validation.images), strict=True):
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
                        nsr=float(nsr),
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
