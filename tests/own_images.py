"""Folders of small images of one's own, as tests need them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def write_images(root: Path, counts: dict[str, int], side: int = 24, grey: bool = False, seed: int = 0) -> Path:
    """PNG files ``<class>/<i>.png``, the brighter the later their class."""
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = 40 + 160 * label / len(counts) + rng.integers(0, 40, (side, side + i % 3, 1 if grey else 3))
            pixels = shade.astype(np.uint8)
            Image.fromarray(pixels[..., 0] if grey else pixels).save(root / name / f"{i}.png")
    return root


def two_classes(root: Path, count: int = 20, side: int = 24) -> Path:
    """``count`` images each of ``cat`` and ``dog``."""
    return write_images(root, {"cat": count, "dog": count}, side)


def write_bomb(path: Path, side: int = 20_000) -> None:
    """A PNG file that says it has ``side`` times ``side`` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
