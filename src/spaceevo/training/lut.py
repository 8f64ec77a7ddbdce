"""The accuracy look-up table (paper section 4.5, step 2): quantized NSR of sampled sub-stages of every BKD student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spaceevo.evolution.points import choose, points, sub_stages
from spaceevo.nn.elastic import Quantizer
from spaceevo.nn.evaluate import calibrate
from spaceevo.nn.nsr import nsr_at
from spaceevo.space import ElasticStage, Graph, Stage, StageSpec, format_stage, random_stage, row_cost
from spaceevo.training.bkd import Student, StudentSpec
from spaceevo.training.features import BoundaryFeatures

Row = dict[str, Any]
#: ms of a sub-stage, by its stage, its blocks, and the width and size of its input.
StageMs = Callable[[ElasticStage, Stage, int, int], float]
TRIES = 20  # points a row at most, of which the first that are different sub-stages are taken


@dataclass(frozen=True)
class Examiner:
    """Measures sub-stages: their BatchNorm statistics are recalibrated on the ``calibration`` features, their NSR is that on
    the ``validation`` features, fake-quantized. ``variance``: of the teacher's boundary features ``[C]`` each."""

    calibration: BoundaryFeatures
    validation: BoundaryFeatures
    variance: Sequence[Tensor]
    quantizer: Quantizer

    @torch.no_grad()
    def nsr(self, student: Student, graphs: Sequence[Graph], resolution: int) -> np.ndarray:
        """Of each of a student's sub-stages ``[graphs]``, for images of ``resolution``."""
        stage = student.spec.stage
        sources = list(self.calibration.sources(stage, resolution))
        recalibrated = [
            calibrate(student.body, g, (student.enter_stage(x, g.input.channels) for x in sources), self.quantizer)
            for g in graphs
        ]
        noise = np.zeros(len(graphs))
        for source, target in self.validation.around(stage, resolution):
            variance = self.variance[stage].to(source.device)
            for i, (graph, stats) in enumerate(zip(graphs, recalibrated, strict=True)):
                y = student(source, graph, self.quantizer, stats)
                noise[i] += len(source) * float(nsr_at(y, target, variance))
        return noise / self.validation.count

    def one(self, student: Student) -> None:
        """Measures a random sub-stage at every resolution, for whoever wants to know how long that takes."""
        spec = student.spec
        rng = np.random.default_rng([spec.stage, spec.block])
        cin, blocks = int(rng.choice(spec.input_widths)), random_stage(spec.elastic, rng)
        for resolution in self.calibration.resolutions:
            hw = next(self.calibration.sources(spec.stage, resolution)).shape[-1]
            self.nsr(student, [student.graph(cin, blocks, hw)], resolution)


def tabulate(student: Student, spec: StageSpec, samples: int, examiner: Examiner, stage_ms: StageMs, seed: int) -> list[Row]:
    """Rows of one (stage, block type): ``samples`` distinct sub-stages a width window and resolution, all of them together
    spread evenly. ``ms``: the predictor's, by stage, blocks, input width and size.
    """
    s = student.spec
    rows: list[Row] = []
    keys = list(product(range(spec.windows), examiner.calibration.resolutions))
    spread = points(max(spec.depths), (len(keys) + TRIES) * samples, _seed_of(s, seed))
    for i, (window, resolution) in enumerate(keys):
        own = spread[i * samples : (i + TRIES) * samples]
        chosen = choose(own, s.elastic, len(s.input_widths), window, spec.window)
        sampled = list(dict.fromkeys(sub_stages(chosen, s.elastic, s.input_widths)))[:samples]
        hw = next(examiner.calibration.sources(s.stage, resolution)).shape[-1]
        graphs = [student.graph(cin, blocks, hw) for cin, blocks in sampled]
        measured = examiner.nsr(student, graphs, resolution)
        for graph, (cin, blocks), nsr in zip(graphs, sampled, measured, strict=True):
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
                    ms=stage_ms(s.elastic, blocks, cin, hw),
                )
            )
    return rows


def _seed_of(spec: StudentSpec, seed: int) -> int:
    return int(np.random.default_rng([seed, spec.stage, spec.block]).integers(2**31))
