"""Batches that are a function of seed, epoch and step alone, so that a resumed run sees what an undisturbed one does."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from spaceevo.app.config import DataConfig
from spaceevo.data.images import Images, normalize

Batch = tuple[int, int, Tensor]


class Shuffle(Sampler[Batch]):
    """Epoch, step and image indices of every batch; the last, smaller one is dropped. Lightning sets the epoch."""

    def __init__(self, images: int, batch: int, seed: int) -> None:
        self.images, self.batch, self.seed, self.epoch = images, min(batch, images), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.images // self.batch

    def __iter__(self) -> Iterator[Batch]:
        order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.images))
        for step in range(len(self)):
            yield self.epoch, step, order[step * self.batch : (step + 1) * self.batch]


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches: ``[B, C, H, W]`` normalized and augmented, ``[B]`` labels; a rank of many gets its share."""

    def __init__(self, images: Tensor, labels: Tensor, cfg: DataConfig, seed: int, augment: bool) -> None:
        self.images, self.labels, self.cfg, self.seed, self.augment = images, labels, cfg, seed, augment

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        epoch, step, indices = batch
        x, y = self.images[indices], self.labels[indices]
        if self.augment and (self.cfg.flip or self.cfg.shift):
            x = flip_and_crop(x, np.random.default_rng([self.seed, epoch, step]), self.cfg.flip, self.cfg.shift)
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return normalize(x[rank::world], self.cfg), y[rank::world]


def flip_and_crop(x: Tensor, rng: np.random.Generator, flip: bool, pad: int) -> Tensor:
    """Every image of ``[B, C, H, W]`` shifted by up to ``pad`` pixels each way and, with ``flip``, half of them mirrored."""
    count, channels, height, width = x.shape
    padded = F.pad(x, (pad, pad, pad, pad))
    shift = torch.from_numpy(rng.integers(0, 2 * pad + 1, (2, count, 1)))
    rows, columns = shift[0] + torch.arange(height), shift[1] + torch.arange(width)
    if flip:
        mirrored = torch.from_numpy(rng.random((count, 1)) < 0.5)
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


class ImagesModule(L.LightningDataModule):
    """The training images of ``images`` (the first ``limit``) in batches of ``batch``."""

    def __init__(
        self, images: Images, cfg: DataConfig, batch: int, seed: int, augment: bool = True, limit: int | None = None
    ) -> None:
        super().__init__()
        self.dataset = Batches(images.train[:limit], images.train_labels[:limit], cfg, seed, augment)
        self.sampler = Shuffle(len(self.dataset.images), batch, seed)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.sampler)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.dataset, batch_size=None, sampler=self.sampler, num_workers=self.dataset.cfg.workers)
