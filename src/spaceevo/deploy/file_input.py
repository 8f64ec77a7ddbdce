"""What a model file takes: pixels as an image file decodes to, or normalized floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import NORMALIZED, PIXELS
from spaceevo.deploy.integer.model import ACT_MAX

COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class FileInput:
    """How the input of a model's files is encoded.

    ``pixels``: uint8, 0 to 255, which are the input tensor's own integers; ``normalized``: float32
    ``(pixel / 255 - mean) / std`` a channel (an int8 TFLite file: the integers of these). ONNX files take
    ``[N, channels, hw, hw]``, TFLite ``[N, hw, hw, channels]``.
    """

    kind: str
    channels: int
    hw: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(kind: str, data: DataConfig, hw: int) -> FileInput:
        """Of files for the images of ``data`` at ``hw`` x ``hw``."""
        return FileInput(kind, data.channels, hw, tuple(data.mean), tuple(data.std))

    @staticmethod
    def read(told: Mapping[str, Any]) -> FileInput:
        """What a card tells as ``input``; one of an older version means normalized floats."""
        _, channels, _, hw = told["shape"]
        mean, std = tuple(told.get("mean", ())), tuple(told.get("std", ()))
        return FileInput(told.get("kind", NORMALIZED), channels, hw, mean, std)

    @property
    def pixels(self) -> bool:
        """Whether it is pixels."""
        return self.kind == PIXELS

    @property
    def colour(self) -> str:
        """The channels' order, in a word."""
        return COLOURS.get(self.channels, f"{self.channels} channels")

    @property
    def resizing(self) -> str:
        """How an image of another size is brought to this one."""
        last = "rounded to whole pixels, halves up" if self.pixels else "after normalization"
        return f"bilinear, antialiased, to {self.hw}x{self.hw}, {last}"

    def claims(self) -> dict[str, Any]:
        """What a card tells of it."""
        told: dict[str, Any] = dict(shape=[1, self.channels, self.hw, self.hw], mean=list(self.mean), std=list(self.std))
        told |= dict(kind=self.kind, colour=self.colour, resize=self.resizing)
        told |= dict(layout=dict(onnx="NCHW", tflite="NHWC"))
        return told | (dict(dtype="uint8", range=[0, ACT_MAX]) if self.pixels else {})

    def words(self, layout: str) -> dict[str, str]:
        """What the metadata of a file of this ``layout`` tell, as text."""
        values = dict(mean=", ".join(map(repr, self.mean)), std=", ".join(map(repr, self.std)))
        if self.pixels:
            held = "uint8 pixels, 0 to 255; normalization is within the model"
        else:
            held = "(pixel / 255 - mean) / std of every channel"
        told = dict(values=held, colour=self.colour, layout=layout, resize=self.resizing, **values)
        return {f"input.{key}": value for key, value in told.items()}
