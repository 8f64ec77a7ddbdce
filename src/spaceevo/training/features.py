"""The teacher's boundary features of a set of images, each made once and kept on disk.

At full size they are larger than memory (some 2 MB an image and resolution), and every sub-stage of a stage reads the same
ones. They are memory-mapped, so that what fits into memory is read from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spaceevo.atomic import atomic_write
from spaceevo.nn.elastic import resize
from spaceevo.nn.evaluate import ImageSource
from spaceevo.training.teacher import Teacher

BATCH = 128  # images whose features are in memory at once


class BoundaryFeatures:
    """The teacher's features of ``images``, batch after batch: ``[B, C, H, W]`` on the teacher's device."""

    def __init__(self, teacher: Teacher, images: ImageSource, resolutions: tuple[int, ...], targets: str, folder: Path) -> None:
        """Makes what is not yet in ``folder``.

        ``targets``: the features to compare with are those of the image as it is (``full``), or at the ``own`` resolution of
        the stage's input, as in ``bkd.targets``.
        """
        self.resolutions, self.count, self._folder = resolutions, len(images), folder
        self._device = next(teacher.parameters()).device
        self._boundaries = len(teacher.stages)
        full = images[:1].shape[-1]
        self._target = {r: full if targets == "full" else r for r in resolutions}
        self._make(teacher, images, sorted({*resolutions, *self._target.values()}))

    @property
    def batches(self) -> range:
        """Where each batch begins."""
        return range(0, self.count, BATCH)

    def sources(self, stage: int, resolution: int) -> Iterator[Tensor]:
        """Inputs of the teacher's ``stage`` (from 1)."""
        return (self._load(resolution, start, stage - 1) for start in self.batches)

    def around(self, stage: int, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs of the teacher's ``stage`` (from 1) and the outputs to compare with."""
        targets = (self._load(self._target[resolution], start, stage) for start in self.batches)
        return zip(self.sources(stage, resolution), targets, strict=True)

    @torch.no_grad()
    def _make(self, teacher: Teacher, images: ImageSource, resolutions: list[int]) -> None:
        for start in self.batches:
            missing = [r for r in resolutions if not self._path(r, start, self._boundaries - 1).exists()]
            x = images[start : start + BATCH].to(self._device) if missing else torch.empty(0)
            for resolution in missing:
                for boundary, feature in enumerate(teacher.features(resize(x, resolution))):
                    last = feature.permute(0, 2, 3, 1).contiguous().cpu().numpy()
                    atomic_write(self._path(resolution, start, boundary), partial(_save, last))

    def _load(self, resolution: int, start: int, boundary: int) -> Tensor:
        """Channels last in memory, as the teacher's own."""
        stored = np.load(self._path(resolution, start, boundary), mmap_mode="c", allow_pickle=False)
        return torch.from_numpy(stored).permute(0, 3, 1, 2).to(self._device)

    def _path(self, resolution: int, start: int, boundary: int) -> Path:
        return self._folder / f"{resolution}-{start}-{boundary}.npy"


def _save(values: np.ndarray, path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, values, allow_pickle=False)
