"""The quantized-for-all supernet (paper section 5): sandwich rule and in-place distillation, in FP32 and as QAT."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.nn.elastic import Elastic, Quantizer, pass_on, resize
from spaceevo.space import SearchSpace, Subnet, subnet_graph, superset_graph
from spaceevo.training.fit import average_gradients, cosine, falling, set_lr, step_rng
from spaceevo.training.optimizer import make_optimizer
from spaceevo.training.sandwich import sandwich_subnets


def make_supernet(space: SearchSpace, input_range: tuple[float, float], padding: str = "symmetric") -> Elastic:
    """The elastic module that holds every subnet of ``space``; ``input_range``: of the normalized images; ``padding``:
    the device's."""
    superset = superset_graph(space)
    return pass_on(Elastic(superset, input_range, padding), superset).to(memory_format=torch.channels_last)


def inplace_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy of a path's logits ``[B, classes]`` with the largest path's soft labels (BigNAS)."""
    return torch.sum(-F.softmax(teacher, 1) * F.log_softmax(student, 1), 1).mean()


class SupernetModule(L.LightningModule):
    """Every batch, at a resolution drawn anew: the largest path learns the labels, all others its predictions.

    Dropout and label smoothing regularize the largest path alone (BigNAS).
    For the first ``largest_first`` of the steps the largest path trains alone (OFA's order; the paper's recipe: 0).

    With ``quantizer`` every path runs fake-quantized: quantization-aware training under the same protocol. ``bf16``: in that
    precision.
    """

    def __init__(
        self, net: Elastic, space: SearchSpace, recipe: Any, steps: int, seed: int, quantizer: Quantizer | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net, self.space, self.recipe = net, space, recipe
        self.steps, self.seed, self.quantizer, self.bf16 = steps, seed, quantizer, False

    @torch.no_grad()
    def scales_moved(self) -> Tensor:
        """How far each learned scale and weight scale is from where it began, in percent ``[scales]``."""
        ratios: list[Tensor] = [p for name, p in self.net.body.named_parameters() if name.endswith(".ratio")]
        return 100 * (torch.stack(ratios) - 1).abs()

    def on_train_epoch_end(self) -> None:
        if self.quantizer is not None:
            self.log("scales_moved_pct", self.scales_moved().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.recipe, self.bf16)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        step = self.global_step
        rng = step_rng(self.seed, "supernet" if self.quantizer is None else "qat", step)
        resolution = int(rng.choice(self.space.hyperspace.resolutions))
        x = resize(x, resolution)
        largest, *others = sandwich_subnets(self.space, resolution, self.recipe.random_paths, rng, self.recipe.smallest)
        if step < self.recipe.largest_first * self.steps:
            others = []  # an untrained largest path has nothing to teach the others
        scores = self._scores(x, largest, self.recipe.dropout)
        loss = F.cross_entropy(scores, y, label_smoothing=self.recipe.label_smoothing)
        self.manual_backward(loss)
        soft = scores.detach()
        for path in others:
            self.manual_backward(inplace_distillation(self._scores(x, path), soft))
        average_gradients(self.net)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        set_lr(optimizer, self._rate(step))
        optimizer.step()
        optimizer.zero_grad()
        self.log("loss", loss.detach(), prog_bar=True)
        self.log("top1", (soft.argmax(1) == y).float().mean() * 100, prog_bar=True)
        return loss.detach()

    def _rate(self, step: int) -> float:
        if self.recipe.schedule == "linear":
            return falling(step, self.steps, self.recipe.warmup)
        return cosine(step, self.steps, round(self.recipe.warmup * self.steps))

    def _scores(self, x: Tensor, path: Subnet, dropout: float = 0.0) -> Tensor:
        """Logits ``[B, classes]``."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.net(x, subnet_graph(path), quantizer=self.quantizer, dropout=dropout).flatten(1).float()


@torch.no_grad()
def init_qat(net: Elastic, space: SearchSpace, images: Tensor, quantizer: Quantizer, seed: int) -> None:
    """LSQ+ initial values of a pretrained supernet from ``images``: over all resolutions' extreme subnets, random
    ones, and the superset graph, which reaches every op."""
    rng = step_rng(seed, "init-qat", 0)
    graphs = []
    for resolution in space.hyperspace.resolutions:
        graphs += [subnet_graph(s) for s in sandwich_subnets(space, resolution, 2, rng)]
    net.init_quantizers(images, graphs, superset_graph(space), quantizer)
