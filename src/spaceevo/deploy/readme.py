"""The ``README.md`` of a model's folder: what the files take and give, and code that calls them, made from the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaceevo.deploy.config import PROBABILITIES
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.integer.model import QParams
from spaceevo.latency.runtimes.ort import INT8_ALLOWED
from spaceevo.space.graph import SYMMETRIC

TEMPLATE = "readme.md.jinja"


def readme(card: Mapping[str, Any], input_qparams: QParams, float_io: bool) -> str:
    """The page of a model of such a ``card``. ``input_qparams``: scale and zero point of its input; ``float_io``: its TFLite
    file gives float32, and takes it where it takes no pixels."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    given, probabilities = FileInput.read(card["input"]), card["output"] == PROBABILITIES
    real = float_io or probabilities
    scale, zero = input_qparams
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(
        name=card["name"],
        classes=len(card["labels"]),
        top1=card["top1_runtime"],
        ms=card["measured_ms"],
        cpu=card["host"]["cpu"],
        hw=given.hw,
        channels=given.channels,
        colour=given.colour,
        mode="L" if given.channels == 1 else "RGB",
        pnm="PGM" if given.channels == 1 else "PPM",
        extension="pgm" if given.channels == 1 else "ppm",
        pixels=given.pixels,
        symmetric=card.get("activations") == SYMMETRIC,
        int8_allowed=INT8_ALLOWED,
        resize=given.resizing,
        mean=list(given.mean),
        std=list(given.std),
        scale=scale,
        zero=zero,
        float_io=float_io,
        gives_int8=not real,
        output=card["output"],
        takes=dict(
            onnx="uint8" if given.pixels else "float32",
            tflite="uint8" if given.pixels else "float32" if float_io else "int8",
        ),
        gives=dict(
            onnx="`probabilities` and `logits`, float32" if probabilities else "`logits`, float32",
            tflite="`probabilities` and `logits`, float32" if probabilities else f"`logits`, {'float32' if real else 'int8'}",
        ),
        mediapipe=given.channels == 3 and real and (given.pixels or float_io),
    )
