"""How fast a network trains here, and in which precision: measured once, on a copy, and recorded.

bf16 halves the time of full convolutions on CPUs that multiply it, and doubles that of depthwise ones: so ``trainer.precision:
auto`` measures. Quantization-aware steps stay in FP32: bf16 has no more digits than the integers that they learn for.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.space import Graph
from spaceevo.training.optimizer import make_optimizer

WARM_UP, TIMED = 5, 25  # steps before, and in, a measurement


def step_seconds(
    net: Elastic, graph: Graph, batch: tuple[Tensor, Tensor], quantizer: Quantizer | None, bf16: bool, recipe: Any
) -> float:
    """One training step of ``graph`` on ``batch`` (normalized ``[B, C, H, W]``, labels ``[B]``), with a copy of the weights and
    the optimizer of ``recipe``."""
    net = copy.deepcopy(net).train()
    x, y = resize(batch[0], graph.input.hw), batch[1]
    optimizer = make_optimizer(net, recipe, bf16)
    for i in range(WARM_UP + TIMED):
        if i == WARM_UP:
            began = time.perf_counter()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            scores = net(x, graph, quantizer=quantizer).flatten(1)
        F.cross_entropy(scores.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - began) / TIMED


def bf16_is_faster(net: Elastic, graph: Graph, batch: tuple[Tensor, Tensor], recipe: Any, precision: str, record: Path) -> bool:
    """Whether steps that do not quantize are to run in bf16: only if ``precision`` (``trainer.precision``) is ``auto``, and
    then as ``record`` has it, so that a resumed run goes on as it began."""
    if precision != "auto":
        return False
    if not record.exists():
        fp32, bf16 = (step_seconds(net, graph, batch, None, each, recipe) for each in (False, True))
        write_json(record, {"bf16": bf16 < fp32, "step_s": {"fp32": fp32, "bf16": bf16}})
    return bool(json.loads(record.read_text())["bf16"])
