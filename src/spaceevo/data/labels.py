"""What the labels of a data set stand for."""

from __future__ import annotations

from spaceevo.data.config import DataConfig

CLASS_NAMES = {
    "fashion_mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "digits": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


def class_names(cfg: DataConfig) -> list[str]:
    """In the labels' order: those of the config, else those known here, else their numbers."""
    return cfg.names or list(CLASS_NAMES.get(cfg.name, map(str, range(cfg.classes))))
