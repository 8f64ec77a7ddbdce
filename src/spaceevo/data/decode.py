"""An image file as the pixels a network sees: one rule, for training, for evaluation and for whoever runs the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

#: Raised by one whenever the same file gives other pixels: what was decoded before is decoded again.
VERSION = 1
#: The formats that are read, as PIL names them.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
#: Modes of 16 bits of grey, and of 32 bits in which older files have 16.
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
#: Modes with an alpha channel.
CLEAR = ("LA", "La", "PA", "RGBA", "RGBa")


@cache
def _formats() -> list[str]:
    """Those of ``FORMATS`` that PIL has here."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def opened(file: Path | str | bytes) -> Iterator[Image.Image]:
    """The first image of a file, or of a file's content, not yet decoded.

    Raises:
        ValueError: it is none that can be read, in words.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which does not matter here
        try:
            image = Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_formats())
        except Image.UnidentifiedImageError:
            raise ValueError("not an image that can be read") from None
        except Image.DecompressionBombError:
            raise ValueError(f"more than {2 * int(Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
        with image:
            yield image


def flat(image: Image.Image, background: int = 255) -> Image.Image:
    """``image`` upright, of 8 bits, opaque, in mode L where it is grey by its mode and RGB otherwise: turned as its EXIF
    orientation says; 16 bits divided by 257; what is transparent composed on the grey level ``background``; CMYK, palettes
    and all else converted by PIL.

    Raises:
        ValueError: floating-point pixels, or more than 16 bits.
        OSError: the file is truncated, or damaged.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        return _eight_bits(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels: save it with 8 or 16 bits")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in CLEAR or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, (background,) * 3 + (255,)), clear)
    return _in_mode(image, "L" if grey else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Decoded, and converted where it is not of ``mode``: conversion to the same copies."""
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise ValueError(f"values from {values.min()} to {values.max()}: save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def to_square(image: Image.Image, size: int, channels: int, background: int = 255) -> np.ndarray:
    """``[channels, size, size]`` uint8 of an image as it was opened: ``flat``, as one channel or three, and its centre square
    brought to ``size`` by PIL's bilinear filter, which averages over what it makes smaller.

    Raises:
        ValueError, OSError: as of ``flat``.
    """
    image = _in_mode(flat(image, background), "L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    pixels = np.asarray(image).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def is_grey(image: Image.Image) -> bool:
    """Whether a flat image, L or RGB, has the same value in all channels."""
    if image.mode == "L":
        return True
    few = image.resize((-(-image.width // 8), -(-image.height // 8)), Image.Resampling.NEAREST)  # they settle most
    return all(bool((pixels == pixels[..., :1]).all()) for pixels in map(np.asarray, (few, image)))
