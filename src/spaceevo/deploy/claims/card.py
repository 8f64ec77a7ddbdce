"""The model card: every figure claimed about an exported file, beside the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.atomic import atomic_write
from spaceevo.latency.measure import latency, quantiles

#: Keys that other tools read; accuracies and agreement in percent, latencies in ms, ``bytes`` of the INT8 file.
#: ``top1_fp32``: of the INT8 file's weights in FP32; less ``top1_runtime`` it is ``quantization_loss``, in points.
#: ``top1_inherited``: of the trained model as the supernet had it, before it was finished alone.
#: ``files``: what :mod:`spaceevo.deploy.claims.verify` can check of each file in its own runtime; ``other_runtimes``, on some
#: cards: the same of files in runtimes that read another's, by their names; ``data``: the test images that the accuracies
#: hold for.
REQUIRED = (
    "encoding",
    "mmacs",
    "params",
    "bytes",
    "top1_fake_quant",
    "top1_runtime",
    "top1_fp32",
    "quantization_loss",
    "top1_inherited",
    "agreement",
    "limit_ms",
    "predicted_ms",
    "measured_ms",
    "fp32_ms",
    "host",
    "versions",
    "inputs",
    "files",
    "data",
)
CARD_HASH = "card_sha256"
#: Of the data config, what decides which test images a model sees and how they are normalized.
TEST_KEYS = ("name", "channels", "classes", "image_size", "mean", "std", "test_limit")
#: The same of one's own images, where the names come from the files.
OWN_KEYS = ("names", "background")


def write_card(path: Path, fields: Mapping[str, Any]) -> None:
    """Write ``fields`` as JSON, atomically: a reader sees the old card or the whole new one.

    Raises:
        KeyError: required keys that are missing.
    """
    missing = [key for key in REQUIRED if key not in fields]
    if missing:
        raise KeyError(f"card without {', '.join(missing)}")
    atomic_write(path, card_text(fields))


def card_hash(fields: Mapping[str, Any]) -> str:
    """sha256 of all of a card but its own hash, in hex: of the figures, however the JSON is laid out."""
    told = {key: value for key, value in fields.items() if key != CARD_HASH}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A card's ``fields`` with the hash that tells whether one of them was changed later."""
    return {**fields, CARD_HASH: card_hash(fields)}


def card_text(fields: Mapping[str, Any]) -> str:
    """``fields`` as JSON for people: a list of rows has a row a line.

    Raises:
        ValueError: a number that JSON does not know.
    """
    return "{\n" + ",\n".join(f'  "{key}": {_text(value)}' for key, value in fields.items()) + "\n}\n"


def data_claims(data: Any, images: int) -> dict[str, Any]:
    """The test images of a data config, as many as there were."""
    keys = (*TEST_KEYS, *(OWN_KEYS if data.names else ()))
    return {key: getattr(data, key) for key in keys} | {"images": images}


def file_claims(content: bytes, times: np.ndarray | None, cold_ms: float | None) -> dict[str, Any]:
    """Size, sha256 and latency of a model file; ``times``: ms of single calls, ``cold_ms``: of one out of cold caches
    (:func:`spaceevo.latency.measure.cold_ms`), None where it was not measured."""
    return content_claims(content) | timing_claims(times, cold_ms)


def timing_claims(times: np.ndarray | None, cold_ms: float | None) -> dict[str, Any]:
    """The latency of a file in one runtime."""
    return dict(
        measured_ms=None if times is None else latency(times),
        quantiles_ms=None if times is None else quantiles(times),
        cold_ms=cold_ms,
    )


def content_claims(content: bytes) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return dict(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _text(value: Any) -> str:
    """JSON; of a list of rows a row a line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in value) + "\n  ]"
    return json.dumps(value, indent=2, allow_nan=False).replace("\n", "\n  ")
