"""Which images, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.errors import bad_value
from spaceevo.settings import CHANNELS, COUNT, IMAGES, PIXELS, SEED, setting

#: What a value of 0 means.
ITS_OWN = "as the images are (data=folder)"


@dataclass
class DataConfig:
    """The images."""

    name: str = setting("which data set", choices=("fashion_mnist", "digits", "cifar10", "imagenet", "folder"))
    root: str = setting("the folder where its files are; of data=folder also a .csv or .parquet file of path and label")
    channels: int = setting("of an image: 1 grey, 3 colour", most=CHANNELS, zero=f"0 {ITS_OWN}")
    classes: int = setting("how many labels there are", most=COUNT, zero=f"0 {ITS_OWN}")
    names: list[str] = setting("of the classes, in the labels' order; []: the data set's own")
    image_size: int = setting("pixels of a side", most=PIXELS, zero=f"0 {ITS_OWN}")
    mean: list[float] = setting(
        f"of every channel over the training images, which are from 0 to 1; [] {ITS_OWN}", least=-100, most=100
    )
    std: list[float] = setting(f"standard deviation of every channel, likewise; [] {ITS_OWN}", most=100)
    flip: bool = setting("training images are mirrored at random")
    shift: int = setting("pixels that training images are moved at random, at most", least=0, most=PIXELS)
    augment: str | None = setting(
        "training images are changed besides: by TrivialAugment's one random change, RandAugment's two; null: not",
        choices=("null", "trivial", "rand"),
    )
    erase: float = setting("share of the training images of which a random rectangle is blackened", least=0, most=1)
    mix: str | None = setting(
        "training images are laid over each other in pairs (mixup), or a rectangle of one is set into another (cutmix), and "
        "their labels with them; null: not",
        choices=("null", "mixup", "cutmix"),
    )
    balanced: bool = setting("an epoch has as many images of one class as of another, of small ones each more than once")
    validation: int = setting(
        "training images that are held out, to choose by; 0 for data=folder: those in val, or 15 % of each class",
        least=0,
        most=IMAGES,
    )
    split_seed: int = setting("of the order in which they are held out", least=0, most=SEED)
    train_limit: int | None = setting("so many training images, the first of that order; null: all", most=IMAGES)
    test_limit: int | None = setting("so many test images, the first; null: all", most=IMAGES)
    workers: int = setting("processes that read images from folders, one a core at most", least=0, most=1024)
    download: bool = setting("fetch what is missing")
    background: int = setting("grey level behind transparent pixels (data=folder)", least=0, most=255)
    skip_broken: bool = setting("go on without files that cannot be read (data=folder)")
    files: str = setting("how many files, and a hash of their content; filled in (data=folder), and others are refused then")

    def check(self) -> None:
        """Raises:
        UserError: a value is left to the images, and ``name`` is not folder.
        """
        if self.name in (MISSING, "folder"):
            return
        for key in ("channels", "classes", "image_size"):
            if getattr(self, key) == 0:
                raise bad_value(f"data.{key}", 0, "more than 0")
