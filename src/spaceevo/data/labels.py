"""What the labels of a data set stand for."""

from __future__ import annotations

from spaceevo.data.config import DataConfig

CLASS_NAMES = {
    "fashion_mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "digits": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


IMAGENET = 1000  # classes; of fewer the folders alone know which


def class_names(cfg: DataConfig) -> list[str]:
    """In the labels' order: those of the config, else those known here, else their numbers."""
    known = imagenet_names() if cfg.name == "imagenet" and cfg.classes == IMAGENET else CLASS_NAMES.get(cfg.name)
    return cfg.names or list(known or map(str, range(cfg.classes)))


def imagenet_names() -> list[str]:
    """Those that torchvision has, in the order of the class folders."""
    from torchvision.models import EfficientNet_B5_Weights

    names: list[str] = EfficientNet_B5_Weights.IMAGENET1K_V1.meta["categories"]
    return names
