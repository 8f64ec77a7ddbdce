"""The NSR loss by hand, jobs side by side, and accuracy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import EVAL_BATCH, calibrate, logits, resized, top1
from spaceevo.nn.nsr import nsr_at, nsr_loss
from spaceevo.nn.parallel import parallel
from spaceevo.space import BlockChoice, ElasticStage, extreme_stage, stage_graph


def test_nsr_is_noise_over_signal_a_channel() -> None:
    """1/C sum_c mean (s - t)^2 / var_c, of two channels with errors 1 and 3 and variances 2 and 4."""
    teacher = torch.randn(2, 2, 3, 3)
    student = teacher + torch.tensor([1.0, -3.0])[:, None, None]
    assert float(nsr_loss(student, teacher, torch.tensor([2.0, 4.0]))) == pytest.approx((1 / 2 + 9 / 4) / 2)


def test_nsr_is_0_for_a_copy_1_for_the_mean_and_scale_free() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(8, 3, 5, 5) * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    variance = teacher.var((0, 2, 3), correction=0)
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    assert float(nsr_loss(teacher, teacher, variance)) == 0
    assert float(nsr_loss(mean, teacher, variance)) == pytest.approx(1, rel=1e-5)
    student = teacher + 0.3 * torch.randn_like(teacher)
    assert float(nsr_loss(7 * student, 7 * teacher, 49 * variance)) == pytest.approx(
        float(nsr_loss(student, teacher, variance))
    )


def test_nsr_of_a_constant_channel_is_finite() -> None:
    assert torch.isfinite(nsr_loss(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.zeros(1)))


def test_nsr_of_a_coarse_output_is_on_the_target_s_grid() -> None:
    """A copy at half the size loses what half the size cannot hold: nothing of a constant, all of a checkerboard."""
    variance = torch.ones(2)
    flat, board = torch.full((3, 2, 8, 8), 2.0), (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    checks = board.expand(3, 2, 8, 8)
    for target, lost in ((flat, 0.0), (checks, 1.0)):
        coarse = F.avg_pool2d(target, 2)
        assert float(nsr_at(coarse, target, variance)) == pytest.approx(lost)
        assert float(nsr_loss(coarse, F.avg_pool2d(target, 2), variance)) == 0  # on its own grid a copy is perfect
        assert float(nsr_at(target + 1, target, variance)) == pytest.approx(1)


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield None
    torch.set_num_threads(before)


def _train(seed: int) -> Tensor:
    """The gradients of a small network: convolutions, a BatchNorm and a backward pass."""
    rng = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng))
    net(torch.randn(16, 3, 24, 24, generator=rng)).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@pytest.mark.usefixtures("two_threads")
def test_parallel_keeps_the_order_and_equals_the_sequential_result_bit_for_bit() -> None:
    side_by_side = list(parallel(_train, range(8)))
    torch.set_num_threads(1)
    for got, seed in zip(side_by_side, range(8), strict=True):
        assert torch.equal(got, _train(seed))
    assert len({float(g.sum()) for g in side_by_side}) == 8


@pytest.mark.usefixtures("two_threads")
def test_parallel_restores_the_threads_and_each_job_has_one() -> None:
    before = torch.__config__.parallel_info()  # of OpenMP and of MKL, whose number all threads share
    assert list(parallel(lambda _: torch.get_num_threads(), range(6))) == [1] * 6
    assert torch.get_num_threads() == 2 and torch.__config__.parallel_info() == before
    assert list(parallel(lambda _: 0, [])) == []


@pytest.mark.usefixtures("two_threads")
def test_an_exception_in_a_job_reaches_the_caller() -> None:
    def job(i: int) -> int:
        if i == 3:
            raise ValueError("job 3")
        return i

    done = []
    with pytest.raises(ValueError, match="job 3"):
        for result in parallel(job, range(6)):
            done.append(result)
    assert done == [0, 1, 2]
    assert torch.get_num_threads() == 2


def test_top1_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 5.0], [1.0, 2.0, 3.0], [9.0, 0.0, 0.0]])
    assert top1(scores, torch.tensor([1, 0, 2, 0, 0])) == pytest.approx(80)
    assert top1(scores[:1], torch.tensor([0])) == 0
    unbalanced = torch.tensor([1, 0, 0, 0, 0])  # over images, not averaged over classes
    assert top1(scores, unbalanced) == pytest.approx(60)


@torch.no_grad()
def test_logits_do_not_depend_on_how_images_are_batched() -> None:
    torch.manual_seed(0)
    stage = ElasticStage("stage1", BlockChoice("mbv3", (3,), (2.0,), "hswish"), (8,), (1,), 2)
    graph = stage_graph(stage, extreme_stage(stage, largest=True), 8, 6)
    net = Elastic(graph, (-3.0, 3.0))
    images = torch.randn(EVAL_BATCH + 130, 8, 8, 8)
    stats = calibrate(net, graph, resized(images[:64], 6))
    whole = logits(net, graph, stats, images)
    assert whole.shape == (EVAL_BATCH + 130, 8 * 3 * 3)
    parts = [logits(net, graph, stats, part) for part in images.split(97)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_large_images_come_in_smaller_batches() -> None:
    images = torch.zeros(600, 1, 2, 2)
    assert [len(x) for x in resized(images, 4)] == [500, 100]
    sizes = [len(x) for x in resized(images, 224)]
    assert sum(sizes) == 600 and max(sizes) < 50


def test_resized_covers_every_image_once_and_in_order() -> None:
    images = torch.arange(10.0)[:, None, None, None].expand(10, 1, 8, 8)
    batches = list(resized(images, 4, batch=4))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert all(b.shape[1:] == (1, 4, 4) for b in batches)
    torch.testing.assert_close(torch.cat(batches)[:, 0, 0, 0], torch.arange(10.0))
