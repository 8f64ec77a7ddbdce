"""Training one network alone: a found subnet from the weights it inherits (``stage=finish``), or any op graph from nothing."""

from __future__ import annotations

import json
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
from spaceevo.training.pace import bf16_is_faster, step_seconds

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
    """Sets ``module.bf16``, and where ``seconds`` are given ``module.steps`` to as many as take so long, by the first of them;
    what was found once stands in ``folder``, so that a resumed run does as many."""
    net, graph = module.net, module.graph
    module.bf16 = bf16_is_faster(net, graph, batch, module.recipe, precision, folder / "pace.json")
    if seconds is None:
        return
    record = folder / "steps.json"
    if not record.exists():
        share = 1 - module.recipe.quantized_from
        ways = [(module.quantizer, False), (None, module.bf16)]
        quantizing, before = step_seconds(net, graph, batch, module.recipe, ways)
        step = share * quantizing + (1 - share) * before
        write_json(record, {"seconds": seconds, "step_s": step, "steps": max(1, round(seconds / step))})
    module.steps = int(json.loads(record.read_text())["steps"])
