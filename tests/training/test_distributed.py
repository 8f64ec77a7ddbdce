"""Training on several processes: real ones, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Command
from torch import nn

from spaceevo.training.fit import average_gradients


def _rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for parameter in net[0].parameters():  # the second layer is on no path of this step
        parameter.grad = torch.full_like(parameter, float(1 + rank))
    average_gradients(net)
    torch.save([p.grad for p in net.parameters()], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_average_gradients_gives_every_rank_the_mean(tmp_path: Path) -> None:
    mp.start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    for rank in range(2):
        weight, bias, *unused = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert (weight == 1.5).all() and (bias == 1.5).all()
        assert unused == [None, None]


def test_one_process_has_nothing_to_average() -> None:
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    before = net.weight.grad.clone()
    average_gradients(net)
    assert torch.equal(net.weight.grad, before)


@pytest.mark.slow
def test_every_stage_trains_on_two_processes(command: Command) -> None:
    two = ("experiment=tiny", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")
    for stage in ("teacher", "bkd", "supernet", "qat"):
        done = command("train", f"stage={stage}", "space=tiny-0120-0000", *two, timeout=600)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            if "validation top-1" in line:
                accuracy = float(line.split("%")[0].split()[-1])
                assert accuracy > 30, line  # ten classes: far above chance
