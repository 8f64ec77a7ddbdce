"""What two processes of ``training/test_distributed.py`` do: ``python -m two_ranks <what> <folder> <workers>``.

A command line of its own: to fork is safe only where no thread has been started, which a process of the tests is past.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from spaceevo.app.config import compose
from spaceevo.data import Images, ImagesModule
from spaceevo.training.fit import average_gradients


def numbered_images(workers: int) -> ImagesModule:
    """64 images in batches of 16; an image's label is its number."""
    cfg = compose("train", ["experiment=tiny", f"data.workers={workers}"]).data
    pixels, ids = torch.zeros(64, 1, 16, 16, dtype=torch.uint8), torch.arange(64)
    return ImagesModule(Images(pixels, ids, pixels[:1], ids[:1]), cfg, 16, 0)


def average(rank: int, folder: Path, workers: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for parameter in net[0].parameters():  # the second layer is on no path of this step
        parameter.grad = torch.full_like(parameter, float(1 + rank))
    average_gradients(net)
    torch.save([p.grad for p in net.parameters()], folder / f"{rank}.pt")
    dist.destroy_process_group()


def load(rank: int, folder: Path, workers: int) -> None:
    mp.set_start_method("spawn", force=True)  # of its workers, as in a process that a trainer spawns
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data = numbered_images(workers)
    loader, epochs = data.train_dataloader(), []
    for epoch in range(2):
        data.sampler.set_epoch(epoch)
        epochs.append([labels.tolist() for _, labels in loader])
    torch.save(epochs, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    what, folder, workers = sys.argv[1:]
    works = {"average": average, "load": load}
    mp.start_processes(works[what], (Path(folder), int(workers)), nprocs=2, start_method="fork")
