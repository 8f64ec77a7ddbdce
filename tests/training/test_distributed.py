"""Training on several processes: real ones, on the CPU."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Command
from torch import Tensor, nn

from spaceevo.app.config import compose
from spaceevo.data import Images, ImagesModule
from spaceevo.training.fit import average_gradients, fit


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


class _Note(L.LightningModule):
    """Trains nothing and notes the labels of every batch, an epoch a list; its rank's are written at the end."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen = folder, [[], []]
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.seen[self.current_epoch].append(batch[1].tolist())
        return self.weight.sum()

    def on_train_end(self) -> None:
        torch.save(self.seen, self.folder / f"{self.global_rank}.pt")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def _images_by_rank(folder: Path, workers: int) -> list[list[list[list[int]]]]:
    """The labels of rank, epoch, batch in a training on two processes: 64 images in batches of 16, each its own label."""
    cfg = compose("train", ["experiment=tiny", f"data.workers={workers}"]).data
    pixels, ids = torch.zeros(64, 1, 16, 16, dtype=torch.uint8), torch.arange(64)
    data = ImagesModule(Images(pixels, ids, pixels[:1], ids[:1]), cfg, 16, 0)
    two = dict(accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False)
    fit(_Note(folder), data, two, False, folder / "checkpoints", 2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_share_out_the_images_whatever_loads_them(tmp_path: Path) -> None:
    by_workers = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        ranks = _images_by_rank(folder, workers)
        for epochs in zip(*ranks, strict=True):
            one, other = ([i for batch in batches for i in batch] for batches in epochs)
            assert len(one) == len(other) == 32 and sorted(one + other) == list(range(64))
        assert all(rank[0] != rank[1] for rank in ranks)  # epochs differ
        by_workers.append(ranks)
    assert by_workers[0] == by_workers[1]


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
