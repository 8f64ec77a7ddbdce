"""Which images, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

from spaceevo.settings import CHANNELS, COUNT, IMAGES, PIXELS, SEED, setting


@dataclass
class DataConfig:
    """The images."""

    name: str = setting("which data set", choices=("fashion_mnist", "digits", "cifar10", "imagenet"))
    root: str = setting("the folder where its files are")
    channels: int = setting("of an image: 1 grey, 3 colour", most=CHANNELS)
    classes: int = setting("how many labels there are", most=COUNT)
    image_size: int = setting("pixels of a side", most=PIXELS)
    mean: list[float] = setting("of every channel over the training images, which are from 0 to 1", least=-100, most=100)
    std: list[float] = setting("standard deviation of every channel, likewise", most=100)
    flip: bool = setting("training images are mirrored at random")
    shift: int = setting("pixels that training images are moved at random, at most", least=0, most=PIXELS)
    validation: int = setting("training images that are held out, to choose by", least=0, most=IMAGES)
    split_seed: int = setting("of the order in which they are held out", least=0, most=SEED)
    train_limit: int | None = setting("so many training images, the first of that order; null: all", most=IMAGES)
    test_limit: int | None = setting("so many test images, the first; null: all", most=IMAGES)
    workers: int = setting("processes that read images from folders, one a core at most", least=0, most=1024)
    download: bool = setting("fetch what is missing")
