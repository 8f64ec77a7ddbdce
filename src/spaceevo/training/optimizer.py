"""The optimizers of supernets and of networks trained alone: SGD, or Muon for the convolutions and SGD for all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spaceevo.nn.elastic import Elastic

LEAST_INPUTS = 8  # channels of a convolution's input, of which a matrix has directions enough to be worth it
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Muon's quintic: takes singular values to about 1 in few rounds
ROUNDS = 3


class MuonSGD(torch.optim.SGD):
    """SGD; groups with ``muon`` set take the step of Muon (K. Jordan, 2024) instead: the momentum of a weight
    ``[cout, cin, k, k]``, as a matrix ``[cout, k * k * cin]``, is made orthogonal (with ``bf16`` set, in that precision), so
    that all its directions learn equally fast; weight decay is decoupled from it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if not group.get("muon"):
                continue
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(p.grad)
                ahead = p.grad.add(buffer, alpha=group["momentum"]).permute(0, 2, 3, 1)
                matrix = ahead.reshape(len(ahead), -1)
                even = orthogonal(matrix.bfloat16() if group["bf16"] else matrix).to(p.dtype)
                direction = even.reshape(ahead.shape).permute(0, 3, 1, 2)
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["muon_decay"]).add_(direction, alpha=-group["lr"] * scale)
                p.grad = None  # SGD's step passes it over
        super().step()
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix ``[rows, columns]`` whose singular values are all 1, by Newton-Schulz rounds: they multiply from
    the side of the shorter dimension only, so they are done on the Gram matrix, and the long one is read twice."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    one = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    factor = one
    a, b, c = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        round_ = torch.addmm(a * one + b * gram, gram, gram, alpha=c)
        gram = round_ @ gram @ round_  # they commute, and are symmetric
        factor = round_ @ factor
    x = factor @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def make_optimizer(net: Elastic, recipe: Any, bf16: bool = False) -> torch.optim.Optimizer:
    """The optimizer of ``recipe`` (its ``lr``, ``momentum``, ``weight_decay``): SGD; with ``muon_lr`` set Muon at that rate,
    and ``muon_decay``, for every convolution with BatchNorm and enough input channels. A group's ``base_lr``: what a
    schedule scales. ``bf16``: where that is the faster precision of the steps."""
    groups = parameter_groups(net, recipe.lr, recipe.weight_decay)
    if recipe.muon_lr is None:
        return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=True, foreach=True)
    ops = [op for op in net.ops_by_name.values() if hasattr(op, "gain") and op.weight.shape[1] >= LEAST_INPUTS]
    hidden = {id(op.weight): op.weight for op in ops}
    rest = [group | {"params": [p for p in group["params"] if id(p) not in hidden]} for group in groups]
    rate = recipe.muon_lr
    muon = dict(muon=True, bf16=bf16, params=[*hidden.values()], lr=rate, base_lr=rate, muon_decay=recipe.muon_decay)
    groups = [group for group in (*rest, muon) if group["params"]]
    return MuonSGD(groups, recipe.lr, recipe.momentum, nesterov=True, foreach=True)


def parameter_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; gains, shifts and biases without, and so LSQ+ scales and zero points, which are in units that
    need no rate of their own (``nn.lsq.Scale``)."""
    learned = [p for p in module.parameters() if p.requires_grad]
    groups = (([p for p in learned if p.dim() > 1], weight_decay), ([p for p in learned if p.dim() <= 1], 0.0))
    return [{"params": p, "weight_decay": decay, "lr": lr, "base_lr": lr} for p, decay in groups if p]
