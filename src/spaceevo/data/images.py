"""Data sets as whole ``uint8`` tensors, or as files that are decoded when asked for, split the same way every time."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.data.config import DataConfig
from spaceevo.data.imagenet import FolderImages, load_folders
from spaceevo.data.own import own_images, parts_of
from spaceevo.errors import UserError, bad_value
from spaceevo.settings import check_section
from spaceevo.sliced import Sliced

#: Where Debian's package ``dataset-fashion-mnist`` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGITS_TEST = 360
Pixels = Tensor | FolderImages
Labelled = tuple[Pixels, Tensor]


@dataclass(frozen=True)
class Images:
    """Images ``[N, C, H, W]`` uint8 with labels ``[N]`` int64; the test set only where it was asked for. ``split``: sha256 of
    which images of the data set are for training and which for validation (of one's own: of their content and labels)."""

    train: Pixels
    train_labels: Tensor
    val: Pixels
    val_labels: Tensor
    test: Pixels | None = None
    test_labels: Tensor | None = None
    split: str = ""


def load_data(cfg: DataConfig, test: bool = False) -> Images:
    """The data set of ``cfg``: validation is the last ``cfg.validation`` images of a permutation of the training
    set drawn from ``cfg.split_seed``; ``train_limit`` and ``test_limit`` keep the first images of each. Of one's own images
    (``cfg`` as of :func:`spaceevo.data.folder.settled`) as :func:`spaceevo.data.split.split` says.

    Raises:
        UserError: the files are missing (how to get them) or damaged, or ``cfg`` does not describe them.
    """
    loaders = {"fashion_mnist": _fashion_mnist, "digits": _digits, "cifar10": _cifar10, "imagenet": _imagenet}
    check_section("data", cfg)
    if cfg.name == "folder":
        return _own(cfg, test)
    images, labels = loaders[cfg.name](cfg, True)
    _check(cfg, images, labels)
    order = torch.from_numpy(np.random.default_rng([cfg.split_seed, 0x5EED]).permutation(len(images)))
    cut = len(images) - cfg.validation
    train, val = order[:cut][: cfg.train_limit], order[cut:]
    tested: tuple[Pixels | None, Tensor | None] = (None, None)
    if test:
        test_images, test_labels = loaders[cfg.name](cfg, False)
        few = torch.arange(len(test_images))[: cfg.test_limit]
        tested = (_chosen(test_images, few), test_labels[few])
    return Images(_chosen(images, train), labels[train], _chosen(images, val), labels[val], *tested, _hash(train, val))


def normalize(images: Sliced[Tensor], cfg: DataConfig) -> Tensor:
    """``uint8`` images as float32 ``(x / 255 - mean) / std`` per channel, channels last in memory; files are all read."""
    pixels = images[:]
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (cfg.mean, cfg.std))
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Normalized:
    """The same for sets that do not fit into memory as floats: ``len`` and slicing as of the tensor of the first ``limit``
    images (None: all), made when asked for."""

    pixels: Sliced[Tensor]
    cfg: DataConfig
    limit: int | None = None

    def __len__(self) -> int:
        return len(range(len(self.pixels))[: self.limit])

    def __getitem__(self, which: slice) -> Tensor:
        return normalize(self.pixels[slice(*which.indices(len(self)))], self.cfg)


def input_range(cfg: DataConfig) -> tuple[float, float]:
    """The least and the greatest value after ``normalize``."""
    black = [-mean / std for mean, std in zip(cfg.mean, cfg.std, strict=True)]
    white = [(1 - mean) / std for mean, std in zip(cfg.mean, cfg.std, strict=True)]
    return min(black), max(white)


def _chosen(images: Pixels, indices: Tensor) -> Pixels:
    return images.chosen(indices) if isinstance(images, FolderImages) else images[indices]


def _hash(*parts: Tensor) -> str:
    """sha256 of the parts' indices; where one part ends and the next begins counts."""
    content = b"".join(np.array([len(part), *part.tolist()], "<i8").tobytes() for part in parts)
    return hashlib.sha256(content).hexdigest()


def _check(cfg: DataConfig, images: Pixels, labels: Tensor) -> None:
    channels, size = (3, images.size) if isinstance(images, FolderImages) else images.shape[1:3]
    for key, value, real in (
        ("channels", cfg.channels, channels),
        ("image_size", cfg.image_size, size),
        ("classes", cfg.classes, int(labels.max()) + 1),
    ):
        if value != real:
            raise bad_value(f"data.{key}", value, f"{real} for {cfg.name}")
    for key, values in (("mean", cfg.mean), ("std", cfg.std)):
        if len(values) != channels:
            raise bad_value(f"data.{key}", values, f"{channels} numbers, one a channel")
    if not 0 < cfg.validation < len(images):
        raise bad_value("data.validation", cfg.validation, f"from 1 to {len(images) - 1}")


def _digits(cfg: DataConfig, train: bool) -> Labelled:
    """scikit-learn's 8x8 digits, enlarged to ``image_size``; the last of a fixed permutation are the test set."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(small, size=(cfg.image_size, cfg.image_size), mode="bilinear", align_corners=False)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    chosen = order[:-DIGITS_TEST] if train else order[-DIGITS_TEST:]
    return images.round().to(torch.uint8)[chosen], torch.from_numpy(labels).long()[chosen]


def _fashion_mnist(cfg: DataConfig, train: bool) -> Labelled:
    """Debian's files where they are, else torchvision's copy in ``cfg.root``."""
    folder = DEBIAN_FASHION_MNIST
    part = "train" if train else "t10k"
    if not folder.is_dir():
        root = Path(cfg.root).expanduser()
        folder = root / "FashionMNIST" / "raw"
        if cfg.download and not (folder / f"{part}-images-idx3-ubyte.gz").exists():
            _download("FashionMNIST", root)
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long()


def _cifar10(cfg: DataConfig, train: bool) -> Labelled:
    from torchvision.datasets import CIFAR10

    root = Path(cfg.root).expanduser()
    if cfg.download and not (root / CIFAR10.base_folder).exists():
        _download("CIFAR10", root)
    try:
        found = CIFAR10(str(root), train=train)
    except RuntimeError:
        raise UserError(f"data=cifar10: not in data.root={cfg.root}; fetch it with data.download=true") from None
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


def _own(cfg: DataConfig, test: bool) -> Images:
    own = own_images(cfg)
    parts = parts_of(own, cfg)
    split = own.split_id(parts)
    parts = parts | dict(train=parts["train"][: cfg.train_limit], test=parts["test"][: cfg.test_limit])
    pixels, labels = torch.from_numpy(own.pixels(cfg)), torch.from_numpy(own.members.labels)
    train, val, tested = (torch.from_numpy(parts[part]) for part in ("train", "val", "test"))
    images = Images(pixels[train], labels[train], pixels[val], labels[val], split=split)
    return replace(images, test=pixels[tested], test_labels=labels[tested]) if test else images


def _imagenet(cfg: DataConfig, train: bool) -> Labelled:
    return load_folders(Path(cfg.root).expanduser(), cfg.image_size, cfg.classes, train)


def _download(name: str, root: Path) -> None:
    import torchvision

    try:
        getattr(torchvision.datasets, name)(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"data.download=true: {name} could not be fetched into {root} ({str(error).splitlines()[0]})") from None


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of unsigned bytes from a gzipped IDX file."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise UserError(
            f"data=fashion_mnist: no {path}; get it with `apt-get install dataset-fashion-mnist` or data.download=true"
        ) from None
    except (OSError, EOFError) as error:
        raise UserError(f"data=fashion_mnist: {path} is damaged ({error}); get it again") from None
    start = 4 + 4 * dimensions
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:start]) if len(content) >= start else (0,)
    if magic != 0x800 + dimensions or len(content) - start != np.prod(shape):
        raise UserError(f"data=fashion_mnist: {path} is damaged (not an IDX file of {dimensions} dimensions); get it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
