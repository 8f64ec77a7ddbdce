"""Images in memory or in files, and the Lightning data module that feeds them."""

from spaceevo.data.images import Images, Normalized, input_range, load_data, normalize
from spaceevo.data.module import ImagesModule

__all__ = ["Images", "ImagesModule", "Normalized", "input_range", "load_data", "normalize"]
