"""Training one network alone: a found subnet from the weights it inherits (``stage=finish``), or any op graph from nothing."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.data import ImagesModule
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.space import Graph
from spaceevo.training.fit import average_gradients, falling, set_lr, step_rng
from spaceevo.training.optimizer import make_optimizer
from spaceevo.training.pace import Way, loop_seconds, step_seconds

INIT_IMAGES = 256
TRIAL_STEPS = 10**6  # of a training whose first steps are timed
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


def set_pace(
    module: AloneModule, seconds: float | None, data: ImagesModule, trainer: dict[str, Any], auto: bool, folder: Path
) -> None:
    """Sets ``module.bf16`` (with ``auto`` to the faster), and where ``seconds`` are given ``module.steps`` to as many as take
    so long with ``trainer`` (its arguments), by the first of them; what was found once stands in ``folder``, so that a resumed
    run does as many."""
    record = folder / "pace.json"
    if not record.exists():
        write_json(record, _pace(module, seconds, data, trainer, auto))
    told = json.loads(record.read_text())
    module.bf16 = told["bf16"]
    module.steps = told.get("steps", module.steps)


def _pace(
    module: AloneModule, seconds: float | None, data: ImagesModule, trainer: dict[str, Any], auto: bool
) -> dict[str, Any]:
    """What is recorded: how long steps take, ``step_s`` by how they are done, and what of the loop around them comes to it."""
    ways: dict[str, Way] = {"fp32": (None, False)}
    if auto:
        ways["bf16"] = (None, True)
    if seconds is not None:
        ways["quantizing"] = (module.quantizer, False)
    taken = (
        step_seconds(module.net, module.graph, data.example(), module.recipe, list(ways.values())) if len(ways) > 1 else [0.0]
    )
    step_s = dict(zip(ways, taken, strict=True))
    plain = "bf16" if step_s.get("bf16", math.inf) < step_s["fp32"] else "fp32"
    pace: dict[str, Any] = {"bf16": plain == "bf16", "step_s": step_s}
    if seconds is None:
        return pace
    first = "quantizing" if module.recipe.quantized_from == 0 else plain
    trial = copy.deepcopy(module)
    trial.bf16, trial.steps = pace["bf16"], TRIAL_STEPS
    loop_s = max(0.0, loop_seconds(trial, data, trainer, step_s[first]) - step_s[first])
    share = module.recipe.quantized_from
    step = (1 - share) * step_s["quantizing"] + share * step_s[plain] + loop_s
    return pace | {"loop_s": loop_s, "seconds": seconds, "steps": max(1, round(seconds / step))}
