"""Folders of small images of one's own, as tests need them."""

from __future__ import annotations

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
