"""Images in folders of class folders (ImageNet's layout), decoded when they are asked for and never kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from spaceevo.errors import UserError, bad_value

#: What is evaluated of an image: the middle 224 of a shorter side of 256.
CENTRE = 0.875


@dataclass(frozen=True)
class FolderImages:
    """Files with the size that their images are brought to. ``len`` and slicing as of a tensor ``[N, 3, size, size]``
    uint8: a slice is decoded then, the centre of each image."""

    files: tuple[str, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, which: slice) -> Tensor:
        return self._stack(self.files[which], partial(centre, size=self.size))

    def chosen(self, indices: Sequence[int] | Tensor) -> FolderImages:
        """Some of the images, still undecoded."""
        return FolderImages(tuple(self.files[int(i)] for i in indices), self.size)

    def augmented(self, indices: Tensor, seed: int, flip: bool) -> Tensor:
        """``[B, 3, size, size]`` uint8: a random crop of each image and, with ``flip``, half of them mirrored."""
        from torchvision import transforms as T

        crop = T.Compose([T.RandomResizedCrop(self.size), T.RandomHorizontalFlip(0.5 if flip else 0.0), T.PILToTensor()])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._stack([self.files[int(i)] for i in indices], crop)

    def _stack(self, files: Sequence[str], transform: Callable[[Image.Image], Tensor]) -> Tensor:
        images = torch.empty((len(files), 3, self.size, self.size), dtype=torch.uint8)
        for image, path in zip(images, files, strict=True):
            image.copy_(transform(_decoded(path)))
        return images


def centre(image: Image.Image, size: int) -> Tensor:
    """What is evaluated of an RGB ``image``: ``[3, size, size]`` uint8."""
    from torchvision import transforms as T

    pixels: Tensor = T.Compose([T.Resize(round(size / CENTRE)), T.CenterCrop(size), T.PILToTensor()])(image)
    return pixels


def _decoded(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not an image that can be read ({error})") from None


def load_folders(root: Path, size: int, classes: int, train: bool) -> tuple[FolderImages, Tensor]:
    """The images below ``root/train`` or ``root/val``, and their labels ``[N]``: the class folders' order by name.

    Raises:
        UserError: a folder is missing, or has other classes than ``classes`` or than the training images.
    """
    from torchvision.datasets import ImageFolder

    found = {}
    for part in ("train",) if train else ("train", "val"):
        try:
            found[part] = ImageFolder(str(root / part))
        except OSError as error:
            why = str(error).splitlines()[0]
            raise UserError(f"data.root={root}: {part} must hold a folder of images for every class ({why})") from None
    names = found["train"].classes
    if len(names) != classes:
        raise bad_value("data.classes", classes, f"{len(names)}, the number of class folders in {root / 'train'}")
    wanted = found["train" if train else "val"]
    odd = sorted(set(names) ^ set(wanted.classes))
    if odd:
        raise UserError(f"data.root={root}: train and val must have the same class folders; {odd[0]} is in one only")
    return FolderImages(tuple(path for path, _ in wanted.samples), size), torch.tensor(wanted.targets)
