"""Muon: orthogonal steps, for the convolutions that have directions enough; all else as SGD does it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.nn.elastic import Elastic
from spaceevo.space.standard import standard_graph
from spaceevo.training.optimizer import make_optimizer, orthogonal

RECIPE = SimpleNamespace(lr=0.1, momentum=0.9, weight_decay=5e-4, muon_lr=0.05, muon_decay=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 80), st.floats(1e-4, 1e4), st.integers(0, 2**20))
def test_orthogonal_keeps_directions_and_evens_their_sizes(rows: int, columns: int, size: float, seed: int) -> None:
    """The singular vectors stay; random matrices' singular values come close to 1, whatever their size."""
    matrix = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ v.T
    assert torch.allclose(found, torch.diag(found.diag()), atol=1e-6)
    large = s > 0.2 * s.max()
    assert bool((found.diag()[large] > 0.5).all()) and bool((found.diag() < 1.3).all())


def network() -> tuple[Elastic, torch.Tensor]:
    torch.manual_seed(0)
    graph = standard_graph("plain4", 0.5, 1, 10, 16)
    net = Elastic(graph).to(memory_format=torch.channels_last)
    x = torch.randn(8, 1, 16, 16)
    net(x, graph).square().mean().backward()
    return net, x


def test_muon_moves_hidden_convolutions_and_sgd_the_rest() -> None:
    """The stem (one input channel) and the classifier (no BatchNorm), gains and shifts move as with SGD alone."""
    net, _ = network()
    plain = copy.deepcopy(net)
    for name, p in plain.named_parameters():
        p.grad = None if (grad := net.get_parameter(name).grad) is None else grad.clone()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    make_optimizer(net, RECIPE).step()
    make_optimizer(plain, SimpleNamespace(**{**vars(RECIPE), "muon_lr": None})).step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, plain.get_parameter(name))}
    hidden = {name for name, p in net.named_parameters() if p.dim() == 4 and "stage" in name and p.shape[1] >= 8}
    assert len(hidden) == 3 and changed == hidden
    for name in hidden:
        step = net.get_parameter(name).detach() - before[name] * (1 - 0.05 * 0.05)
        matrix = step.permute(0, 2, 3, 1).reshape(len(step), -1)
        size = 0.05 * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        assert torch.linalg.svdvals(matrix / size).max() == pytest.approx(1, abs=0.3)


def test_without_a_rate_of_its_own_it_is_sgd() -> None:
    net, _ = network()
    assert type(make_optimizer(net, SimpleNamespace(**{**vars(RECIPE), "muon_lr": None}))) is torch.optim.SGD


def test_a_saved_optimizer_goes_on_as_it_would_have() -> None:
    """Momentum of both kinds is in the state: three steps, or two, a save, and one more."""

    def train(net: Elastic, optimizer: torch.optim.Optimizer, steps: range) -> None:
        graph = standard_graph("plain4", 0.5, 1, 10, 16)
        for step in steps:
            optimizer.zero_grad()
            x = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(step))
            net(x, graph).square().mean().backward()
            optimizer.step()

    whole, _ = network()
    train(whole, make_optimizer(whole, RECIPE), range(3))
    part, _ = network()
    first = make_optimizer(part, RECIPE)
    train(part, first, range(2))
    resumed = make_optimizer(part, RECIPE)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    train(part, resumed, range(2, 3))
    for name, p in whole.named_parameters():
        assert torch.equal(p, part.get_parameter(name)), name
