"""Images in memory or in files, and the Lightning data module that feeds them; ``config`` alone loads no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaceevo.data.images import Images, Normalized, input_range, load_data, normalize
    from spaceevo.data.module import ImagesModule

__all__ = ["Images", "ImagesModule", "Normalized", "input_range", "load_data", "normalize"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # one of the two: Lightning, which the other loads, takes longer to import than most that needs images takes in all
    return getattr(import_module(f"spaceevo.data.{'module' if name == 'ImagesModule' else 'images'}"), name)
