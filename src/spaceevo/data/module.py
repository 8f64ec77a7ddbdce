"""Batches that are a function of seed, epoch and step alone, so that a resumed run sees what an undisturbed one does."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from spaceevo.data.config import DataConfig
from spaceevo.data.imagenet import FolderImages
from spaceevo.data.images import Images, Pixels, normalize

AUGMENT = {"trivial": v2.TrivialAugmentWide, "rand": v2.RandAugment}
MIX = {
    "mixup": (v2.MixUp, 0.2),
    "cutmix": (v2.CutMix, 1.0),
}  # and the parameter of their Beta distribution, as their papers have it
Batch = tuple[int, int, Tensor, slice]
Easy = tuple[np.ndarray, float]


class Shuffle(Sampler[Batch]):
    """Epoch, step and image indices of every batch, and which of them are this rank's; the last, smaller batch is dropped,
    and one that is larger than an epoch is all of it.

    An epoch is ``limit`` of the ``images`` (None: all), drawn anew for each; where there are fewer, each comes as often as it
    takes. With ``easy``, a mask ``[images]`` and the share of these images that an epoch has, all others and so many of them.
    With ``classes`` ``[images]``, the labels, it has as many of one class as of another. Lightning sets the epoch. The rank is
    asked for here, in the process that trains: the loader's workers have none.
    """

    def __init__(
        self,
        images: int,
        batch: int,
        seed: int,
        limit: int | None = None,
        easy: Easy | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        self.classes = classes
        self.hard, self.easy, self.few = np.arange(images), np.arange(0), 0
        if easy is not None:
            self.hard, self.easy = np.flatnonzero(~easy[0]), np.flatnonzero(easy[0])
            self.few = round(easy[1] * len(self.easy))
        self.drawn = limit or len(self.hard) + self.few
        self.asked, self.batch, self.seed, self.epoch = batch, min(batch, self.drawn), seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.drawn // self.batch

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        here = np.concatenate([self.hard, rng.choice(self.easy, self.few, replace=False)]) if self.few else self.hard
        order = torch.from_numpy(self._drawn(rng, here))
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for step in range(len(self)):
            yield self.epoch, step, order[step * self.batch : (step + 1) * self.batch], slice(rank, None, world)

    def _drawn(self, rng: np.random.Generator, here: np.ndarray) -> np.ndarray:
        """The images of an epoch in order, of those that are ``here``."""
        if self.classes is None:
            return _passes(rng, here, self.drawn)
        labels = self.classes[here]
        groups = [here[labels == label] for label in np.unique(labels)]
        each = math.ceil(self.drawn / len(groups))
        return rng.permutation(np.concatenate([_passes(rng, group, each) for group in groups]))[: self.drawn]


def _passes(rng: np.random.Generator, images: np.ndarray, count: int) -> np.ndarray:
    """``count`` of ``images``, as many passes over them, each in an order of its own, as it takes."""
    return np.concatenate([rng.permutation(images) for _ in range(math.ceil(count / len(images)))])[:count]


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches: ``[B, C, H, W]`` uint8, augmented, and labels; a rank of many gets its share.

    ``labels``: ``[N]``, or for images in memory shares of the classes, ``[1 or 2, N, classes]``: of each as it is, and with
    ``data.flip`` mirrored. With ``data.mix`` the labels of a batch are shares, ``[B, classes]``.
    Every rank draws the whole batch's shifts and flips, so that they do not depend on the number of ranks."""

    def __init__(self, images: Pixels, labels: Tensor, cfg: DataConfig, seed: int, augment: bool) -> None:
        self.images, self.labels, self.cfg, self.seed, self.augment = images, labels, cfg, seed, augment

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x, y = self._chosen(batch)
        return self._mixed(x, y, batch) if self.augment and self.cfg.mix is not None else (x, y)

    def _chosen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        epoch, step, indices, share = batch
        rng = np.random.default_rng([self.seed, epoch, step])
        mine = indices[share]
        changed = self.augment and (self.cfg.augment is not None or self.cfg.erase > 0)
        if isinstance(self.images, FolderImages):
            seed = int(rng.integers(2**31)) + share.start
            chosen = self.images.augmented(mine, seed, self.cfg.flip) if self.augment else self.images.chosen(mine)[:]
            return self._changed(chosen, seed) if changed else chosen, self.labels[mine]
        x, mirrored = self.images[indices], torch.zeros(len(indices), dtype=torch.bool)
        if self.augment and (self.cfg.flip or self.cfg.shift):
            x, mirrored = flip_and_crop(x, rng, self.cfg.flip, self.cfg.shift)
        x = self._changed(x[share], int(rng.integers(2**31)) + share.start) if changed else x[share]
        return x, self.labels[mine] if self.labels.dim() == 1 else self.labels[mirrored[share].long(), mine]

    def _changed(self, x: Tensor, seed: int) -> Tensor:
        """The images ``[B, C, H, W]`` uint8 after ``data.augment`` and ``data.erase``, each changed in its own way."""
        steps = [AUGMENT[self.cfg.augment]()] if self.cfg.augment is not None else []
        change = v2.Compose([*steps, v2.RandomErasing(p=self.cfg.erase)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.stack([change(image) for image in x])

    def _mixed(self, x: Tensor, y: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Every image of ``x`` uint8 with the one before it, and what they are of, ``[B, classes]``."""
        assert self.cfg.mix is not None
        epoch, step, _, share = batch
        kind, alpha = MIX[self.cfg.mix]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([self.seed, epoch, step, share.start]).integers(2**31)))
            mixed, shares = kind(alpha=alpha, num_classes=self.cfg.classes if y.dim() == 1 else None)(x.float(), y)
        return mixed.round().to(torch.uint8), shares


def flip_and_crop(x: Tensor, rng: np.random.Generator, flip: bool, pad: int) -> tuple[Tensor, Tensor]:
    """Every image of ``[B, C, H, W]`` shifted by up to ``pad`` pixels each way and, with ``flip``, half of them mirrored; which
    those are, ``[B]``."""
    count, _, height, width = x.shape
    down, right = torch.from_numpy(rng.integers(0, 2 * pad + 1, (2, count)))
    mirrored = torch.from_numpy(rng.random(count) < 0.5) if flip else torch.zeros(count, dtype=torch.bool)
    if pad:
        windows = F.pad(x, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        x = windows[torch.arange(count), :, down, right]
    return torch.where(mirrored[:, None, None, None], x.flip(3), x), mirrored


class ImagesModule(L.LightningDataModule):
    """The training images of ``images`` (an epoch: ``limit`` of them, drawn anew) in batches of ``batch``, decoded and
    augmented in ``data.workers`` processes, one a core at most, and normalized on the device that trains; ``easy``: as of
    ``Shuffle``."""

    def __init__(
        self,
        images: Images,
        cfg: DataConfig,
        batch: int,
        seed: int,
        augment: bool = True,
        limit: int | None = None,
        easy: Easy | None = None,
    ) -> None:
        super().__init__()
        self.dataset = Batches(images.train, images.train_labels, cfg, seed, augment)
        labels = images.train_labels if images.train_labels.dim() == 1 else images.train_labels[0].argmax(1)
        self.sampler = Shuffle(len(images.train), batch, seed, limit, easy, labels.numpy() if cfg.balanced else None)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.sampler)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        workers = min(self.dataset.cfg.workers, os.cpu_count() or 1)  # more would wait for each other
        return DataLoader(
            self.dataset, batch_size=None, sampler=self.sampler, num_workers=workers, persistent_workers=workers > 0
        )

    def example(self) -> tuple[Tensor, Tensor]:
        """The first batch, as a training step gets it."""
        pixels, labels = next(iter(self.train_dataloader()))
        return normalize(pixels, self.dataset.cfg), labels

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        pixels, labels = batch
        return normalize(pixels, self.dataset.cfg), labels
