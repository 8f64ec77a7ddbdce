"""Training on several processes: real ones, on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import ROOT, Command, forked
from torch import Tensor, nn
from two_ranks import numbered_images

from spaceevo.training.fit import average_gradients, fit


def both_ranks(what: str, folder: Path, workers: int = 0) -> None:
    """Two processes of ``two_ranks.py``."""
    line = [sys.executable, "-m", "two_ranks", what, str(folder), str(workers)]
    done = forked(line, folder, PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'tests'}")
    assert done.returncode == 0, done.stderr


def test_average_gradients_gives_every_rank_the_mean(tmp_path: Path) -> None:
    both_ranks("average", tmp_path)
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


def _check_shares(folder: Path) -> None:
    """Both ranks' images of every batch are together the batch that one process would train, and none is seen twice."""
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    sampler = numbered_images(0).sampler
    for epoch, batches in enumerate(zip(*ranks, strict=True)):
        one, other = ([image for batch in rank for image in batch] for rank in batches)
        assert len(one) == len(other) == 32 and sorted(one + other) == list(range(64))
        sampler.set_epoch(epoch)
        assert [{*a, *b} for a, b in zip(*batches, strict=True)] == [set(batch[2].tolist()) for batch in sampler]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_two_processes_share_out_the_images_whoever_loads_them(tmp_path: Path, workers: int) -> None:
    both_ranks("load", tmp_path, workers)
    _check_shares(tmp_path)


@pytest.mark.slow
def test_a_trainer_of_two_processes_shares_out_the_images_that_workers_load(tmp_path: Path) -> None:
    two = dict(accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False)
    fit(_Note(tmp_path), numbered_images(2), two, False, tmp_path / "checkpoints", 2)
    _check_shares(tmp_path)


@pytest.mark.slow
def test_every_stage_trains_on_two_processes(command: Command) -> None:
    two = ("experiment=tiny", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")
    for stage in ("teacher", "bkd", "supernet", "qat"):
        done = command("train", f"stage={stage}", "space=tiny-0120-0000", *two)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            if "validation top-1" in line:
                accuracy = float(line.split("%")[0].split()[-1])
                assert accuracy > 30, line  # ten classes: far above chance
