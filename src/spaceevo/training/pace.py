"""How fast a network trains here, and in which precision: measured once, on a copy, and recorded.

bf16 halves the time of full convolutions on CPUs that multiply it, and doubles that of depthwise ones: so ``trainer.precision:
auto`` measures. Quantization-aware steps stay in FP32: bf16 has no more digits than the integers that they learn for.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.data import ImagesModule
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.space import Graph
from spaceevo.training.fit import fit, set_lr
from spaceevo.training.optimizer import make_optimizer
from spaceevo.training.watch import Diverged

WARM_UP, ROUNDS, STEPS = 5, 7, 4  # steps before a measurement; its rounds; steps in each
LOOP_S, LOOP_STEPS = 3.0, (24, 200)  # of a trial of the whole loop: seconds, and fewest and most steps
BUSY = 20  # the longest step of so many is a busy moment's
#: How a step is done: quantization-aware or not, in bf16 or not.
Way = tuple[Quantizer | None, bool]


def step_seconds(net: Elastic, graph: Graph, batch: tuple[Tensor, Tensor], recipe: Any, ways: Sequence[Way]) -> list[float]:
    """One training step of ``graph`` on ``batch`` (normalized ``[B, C, H, W]``, labels ``[B]``) in each of ``ways``, with
    copies of the weights and the optimizer of ``recipe``. They take turns: a busy moment of the machine decides nothing."""
    steppers = [_stepper(net, graph, batch, recipe, way) for way in ways]
    for step in steppers:
        for _ in range(WARM_UP):
            step()
    return np.median([[_seconds(step) for step in steppers] for _ in range(ROUNDS)], axis=0).tolist()


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """A step did."""
        self.ends.append(time.perf_counter())


def loop_seconds(module: L.LightningModule, data: ImagesModule, trainer: dict[str, Any], step_s: float) -> float:
    """One step of ``module``, which is trained for a few, as ``fit`` does it: beside what :func:`step_seconds` found
    (``step_s``) it loads images, calls Lightning's hooks and saves checkpoints, 3 ms more to a small network's 11."""
    steps, clock = int(np.clip(LOOP_S / step_s, *LOOP_STEPS)), Clock()
    with tempfile.TemporaryDirectory() as folder:
        try:
            quiet = trainer | {"enable_progress_bar": False}
            fit(module, data, quiet, False, Path(folder), -(-steps // data.steps_per_epoch), steps, more=[clock])
        except Diverged:  # the training itself will, and say so
            return step_s
    taken = np.sort(np.diff(clock.ends[WARM_UP:]))
    return float(taken[: len(taken) - len(taken) // BUSY].mean())


def _stepper(net: Elastic, graph: Graph, batch: tuple[Tensor, Tensor], recipe: Any, way: Way) -> Callable[[], None]:
    quantizer, bf16 = way
    net = copy.deepcopy(net).train()
    x, y = resize(batch[0], graph.input.hw), batch[1]
    optimizer = make_optimizer(net, recipe, bf16)
    set_lr(optimizer, 0.0)  # it takes as long; at the full rate from the first step, scales may come to 0 meanwhile

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            scores = net(x, graph, quantizer=quantizer).flatten(1)
        F.cross_entropy(scores.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - began) / STEPS


def bf16_is_faster(net: Elastic, graph: Graph, batch: tuple[Tensor, Tensor], recipe: Any, precision: str, record: Path) -> bool:
    """Whether steps that do not quantize are to run in bf16: only if ``precision`` (``trainer.precision``) is ``auto``, and
    then as ``record`` has it, so that a resumed run goes on as it began."""
    if precision != "auto":
        return False
    if not record.exists():
        fp32, bf16 = step_seconds(net, graph, batch, recipe, [(None, False), (None, True)])
        write_json(record, {"bf16": bf16 < fp32, "step_s": {"fp32": fp32, "bf16": bf16}})
    return bool(json.loads(record.read_text())["bf16"])
