"""Which images, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.settings import setting


@dataclass
class DataConfig:
    """Images; ``mean``, ``std``: one a channel; ``validation``: how many training images are held out, of an order that
    ``split_seed`` draws."""

    name: str = setting(choices=("fashion_mnist", "digits", "cifar10", "imagenet"))
    root: str = MISSING
    channels: int = MISSING
    classes: int = MISSING
    image_size: int = MISSING
    mean: list[float] = MISSING
    std: list[float] = MISSING
    flip: bool = MISSING
    shift: int = setting(least=0)
    validation: int = setting(least=0)
    split_seed: int = setting(least=0)
    train_limit: int | None = MISSING
    test_limit: int | None = MISSING
    workers: int = setting(least=0)
    download: bool = MISSING
