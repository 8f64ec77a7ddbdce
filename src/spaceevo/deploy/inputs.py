"""Images as a model's files are given them, and as its judges see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spaceevo.data import Normalized, normalize
from spaceevo.data.config import DataConfig
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.integer.model import ACT_MAX
from spaceevo.deploy.integer.reference import Arrays
from spaceevo.nn.elastic import resize
from spaceevo.nn.evaluate import ImageSource
from spaceevo.sliced import Sliced

TIE = 1e-9  # a value that is less than this below a half is one


@dataclass(frozen=True)
class PixelsAt:
    """``images`` uint8 ``[N, C, H, W]`` at ``hw`` x ``hw``, each made when asked for: the resize that all images get, rounded
    to pixels, halves up, and in float64, so that any other code of this resize gives the same pixels."""

    images: Sliced[Tensor]
    hw: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice) -> Tensor:
        pixels = self.images[which]
        if pixels.shape[-1] == self.hw:
            return pixels
        return (resize(pixels.double(), self.hw) + 0.5 + TIE).clamp(0, ACT_MAX).byte()


@dataclass(frozen=True)
class AtSize:
    """``images`` as a runtime takes them, row by row in memory: of normalized ones, slices are float32 ``[n, C, hw, hw]``;
    pixels have that size already."""

    images: ImageSource
    hw: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice) -> np.ndarray:
        return np.ascontiguousarray(resize(self.images[which], self.hw).numpy())


@dataclass(frozen=True)
class Shown:
    """The same images twice: ``normalized``, as the trained model and the reference see them, and as the files are ``fed``
    them. Both are ``[N, C, H, W]``; those that are fed have the files' size."""

    normalized: ImageSource
    fed: Arrays


def shown(images: Sliced[Tensor], data: DataConfig, given: FileInput) -> Shown:
    """``images`` uint8 ``[N, C, H, W]`` of ``data`` for files that are ``given`` them so. Of files that take pixels, all that
    are judged by these images see the same pixels."""
    if given.pixels:
        small = PixelsAt(images, given.hw)
        return Shown(Normalized(small, data), AtSize(small, given.hw))
    floats = Normalized(images, data)
    return Shown(floats, AtSize(floats, given.hw))


def calibration(images: Sliced[Tensor], data: DataConfig, given: FileInput) -> Tensor:
    """``images`` likewise, normalized: what BatchNorm statistics are recalibrated on."""
    return normalize(PixelsAt(images, given.hw) if given.pixels else images, data)
