"""Training one network alone: a found subnet from the weights it inherits (``stage=finish``), or any op graph from nothing."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.space import Graph
from spaceevo.training.bkd import parameter_groups
from spaceevo.training.fit import average_gradients, set_lr, step_rng

WARM_UP, TIMED = 5, 25  # steps before, and in, the measurement that turns seconds into steps
INIT_IMAGES = 256


class AloneModule(L.LightningModule):
    """Cross entropy with SGD, the rate falling linearly to 0; quantization-aware from the share ``quantized_from`` of the
    steps on, its quantizers fitted to ``images`` then."""

    def __init__(
        self, net: Elastic, graph: Graph, recipe: Any, steps: int, seed: int, quantizer: Quantizer, images: Tensor
    ) -> None:
        super().__init__()
        self.net, self.graph, self.recipe = net, graph, recipe
        self.steps, self.seed, self.quantizer = steps, seed, quantizer
        self._images = images[:INIT_IMAGES]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        r = self.recipe
        return torch.optim.SGD(parameter_groups(self.net, r.lr, r.weight_decay), r.lr, r.momentum, nesterov=True)

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
        scores = self.net(x, self.graph, quantizer=self.quantizer if step >= switch else None).flatten(1)
        loss = F.cross_entropy(scores, y)
        self.log("loss", loss, prog_bar=True)
        return loss


def falling(step: int, total: int, warmup: float) -> float:
    """Learning-rate factor: linear warm-up over the share ``warmup`` of the steps, on a line that falls to 0."""
    return (1 - step / total) * min(1.0, (step + 1) / max(1.0, warmup * total))


def steps_within(seconds: float, module: AloneModule, batch: tuple[Tensor, Tensor], record: Path) -> int:
    """How many of ``module``'s steps take ``seconds``, by the first of them, on a copy; what was found once stands in
    ``record``, so that a resumed run does as many."""
    if record.exists():
        return int(json.loads(record.read_text())["steps"])
    net, quantized = copy.deepcopy(module.net), 1 - module.recipe.quantized_from
    x, y = resize(batch[0], module.graph.input.hw), batch[1]
    optimizer = torch.optim.SGD(net.parameters(), 1e-6, 0.9, nesterov=True)
    taken = 0.0
    for share, quantizer in ((quantized, module.quantizer), (1 - quantized, None)):
        if share:
            for i in range(WARM_UP + TIMED):
                if i == WARM_UP:
                    begin = time.perf_counter()
                F.cross_entropy(net(x, module.graph, quantizer=quantizer).flatten(1), y).backward()
                optimizer.step()
                optimizer.zero_grad()
            taken += share * (time.perf_counter() - begin) / TIMED
    steps = max(1, round(seconds / taken))
    write_json(record, {"seconds": seconds, "step_s": taken, "steps": steps})
    return steps
