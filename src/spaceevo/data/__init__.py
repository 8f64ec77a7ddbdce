"""Images in memory, and the Lightning data module that feeds them."""

from spaceevo.data.images import Images, input_range, load_data, normalize
from spaceevo.data.module import ImagesModule

__all__ = ["Images", "ImagesModule", "input_range", "load_data", "normalize"]
