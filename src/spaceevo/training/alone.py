"""Training one network alone: a found subnet from the weights it inherits (``stage=finish``), or any op graph from nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.space import Graph
from spaceevo.training.fit import average_gradients, falling, set_lr, step_rng
from spaceevo.training.optimizer import make_optimizer
from spaceevo.training.pace import Way, step_seconds

INIT_IMAGES = 256
LOGGED = 10  # steps from one logged loss to the next: to log each costs a small network a twentieth of its time


class AloneModule(L.LightningModule):
    """Cross entropy, the rate falling linearly to 0; quantization-aware from the share ``quantized_from`` of the
    steps on, its quantizers fitted to ``images`` then; before, in bf16 if ``bf16`` is set."""

    def __init__(
        self, net: Elastic, graph: Graph, recipe: Any, steps: int, seed: int, quantizer: Quantizer, images: Tensor
    ) -> None:
        super().__init__()
        self.net, self.graph, self.recipe = net, graph, recipe
        self.steps, self.seed, self.quantizer = steps, seed, quantizer
        self.bf16, self._images = False, images[:INIT_IMAGES]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.recipe, self.bf16)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        average_gradients(self.net)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        step, switch = self.global_step, round(self.recipe.quantized_from * self.steps)
        step_rng(self.seed, "alone", step)
        if step == switch > 0:  # else they are inherited
            self.net.init_quantizers(
                resize(self._images.to(x.device), self.graph.input.hw), [self.graph], self.graph, self.quantizer
            )
        set_lr(cast(torch.optim.Optimizer, self.optimizers()), falling(step, self.steps, self.recipe.warmup))
        x = resize(x, self.graph.input.hw)
        quantizer = self.quantizer if step >= switch else None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16 and quantizer is None):
            scores = self.net(x, self.graph, quantizer=quantizer).flatten(1)
        smoothing = 0.0 if y.is_floating_point() else self.recipe.label_smoothing  # another network's answers are smooth
        loss = F.cross_entropy(scores.float(), y, label_smoothing=smoothing)
        if step % LOGGED == 0:
            self.log("loss", loss, prog_bar=True)
        return loss


def set_pace(module: AloneModule, seconds: float | None, batch: tuple[Tensor, Tensor], precision: str, folder: Path) -> None:
    """Sets ``module.bf16`` (in ``precision`` ``auto`` the faster), and where ``seconds`` are given ``module.steps`` to as many
    as take so long, by the first of them; what was found once stands in ``folder``, so that a resumed run does as many."""
    record = folder / "pace.json"
    if not record.exists():
        ways: dict[str, Way] = {"fp32": (None, False)}
        if precision == "auto":
            ways["bf16"] = (None, True)
        if seconds is not None:
            ways["quantizing"] = (module.quantizer, False)
        taken = step_seconds(module.net, module.graph, batch, module.recipe, list(ways.values())) if len(ways) > 1 else [0.0]
        write_json(record, _pace(dict(zip(ways, taken, strict=True)), seconds, module.recipe.quantized_from))
    told = json.loads(record.read_text())
    module.bf16 = told["bf16"]
    module.steps = told.get("steps", module.steps)


def _pace(step_s: dict[str, float], seconds: float | None, quantized_from: float) -> dict[str, Any]:
    """What is recorded of steps that take ``step_s``, by how they are done."""
    bf16 = step_s.get("bf16", math.inf) < step_s["fp32"]
    pace: dict[str, Any] = {"bf16": bf16, "step_s": step_s}
    if seconds is not None:
        step = (1 - quantized_from) * step_s["quantizing"] + quantized_from * step_s["bf16" if bf16 else "fp32"]
        pace |= {"seconds": seconds, "steps": max(1, round(seconds / step))}
    return pace
