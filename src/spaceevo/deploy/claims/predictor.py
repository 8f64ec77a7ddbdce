"""An exported model as whoever has its folder runs it: from an image file to the probabilities of its classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from spaceevo.data import decode
from spaceevo.data.config import DataConfig
from spaceevo.data.imagenet import centre
from spaceevo.deploy.claims.reading import read_card, read_files
from spaceevo.deploy.inputs import FileInput, shown
from spaceevo.deploy.runtimes.registry import RUNTIMES, open_file
from spaceevo.errors import UserError

WHITE = 255  # behind transparent pixels, where the card says nothing of it


@dataclass(frozen=True)
class Predictor:
    """A model file, open, with what its card says of the images that it takes. ``labels``: the classes' names;
    ``square``: from an opened image to ``[C, S, S]`` uint8, as the images became that the card's accuracy is of."""

    labels: list[str]
    given: FileInput
    square: Callable[[Image.Image], np.ndarray]
    logits: Callable[[np.ndarray], np.ndarray]

    @staticmethod
    def of(folder: Path, runtime: str, threads: int = 1) -> Predictor:
        """The INT8 file of a model's folder that ``runtime`` reads.

        Raises:
            UserError: there is no card or no such file, or they are damaged.
        """
        card, by = read_card(folder), RUNTIMES[runtime]
        files = read_files(folder, card)
        for name, claims in card["files"].items():
            if by.reads(name) and claims["precision"] == "int8":
                data = card["data"]
                labels = card.get("labels") or [str(i) for i in range(data["classes"])]
                opened = open_file(folder / name, files[name], threads, by)
                given = FileInput.read(card["input"])
                return Predictor(labels, given, _square(data, given.channels), opened)
        raise UserError(f"path={folder}: its card has no INT8 file for runtime={runtime}")

    def pixels(self, image: Path | bytes, name: str) -> np.ndarray:
        """``[C, S, S]`` uint8 of an image file, or of its content, as the images were that the model learned from.

        Raises:
            UserError: it is no image that can be read; ``name``: what it is called then.
        """
        try:
            with decode.opened(image) as opened:
                return self.square(opened)
        except Exception as error:  # decoders raise whatever they like
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            raise UserError(f"image={name}: {reason.splitlines()[0]}") from None

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        """The classes' probabilities ``[N, classes]``, of images ``[N, C, S, S]`` uint8, and how long the file took, ms."""
        data = DataConfig(mean=list(self.given.mean), std=list(self.given.std))
        fed = shown(torch.tensor(pixels), data, self.given).fed[:]
        began = time.perf_counter()
        scores = self.logits(fed).astype(np.float64)
        ms = 1e3 * (time.perf_counter() - began)
        shares = np.exp(scores - scores.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True), ms


def _square(data: Mapping[str, Any], channels: int) -> Callable[[Image.Image], np.ndarray]:
    """How a card's ``data`` become pixels."""
    size = data["image_size"]
    if data["name"] == "imagenet":
        return lambda image: centre(image.convert("RGB"), size).numpy()
    return partial(decode.to_square, size=size, channels=channels, background=data.get("background", WHITE))
