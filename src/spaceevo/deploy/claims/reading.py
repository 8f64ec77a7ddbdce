"""A model's folder as ``verify`` reads it: the card, of which every figure that is used has its kind, and the files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spaceevo.deploy.claims.gate import OTHERS
from spaceevo.deploy.claims.ran import ran
from spaceevo.deploy.config import LOGITS, NORMALIZED, PIXELS, PROBABILITIES
from spaceevo.errors import UserError, bad_value

NEEDED = ("name", "input", "data", "files", "timing", "host", "versions")
#: Files that a card may tell size and hash of beside the model files.
BESIDE = "other_files"
Kind = tuple[Callable[[Any], bool], str]


def _whole(value: Any, least: int = 0, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_number, value))


COUNT: Kind = (lambda v: _whole(v, 1, 10**6), "a whole number from 1 to 1,000,000")
BYTES: Kind = (_whole, "a whole number, 0 or more")
TEXT: Kind = (lambda v: isinstance(v, str) and v.isprintable(), "text in one line")
HASH: Kind = (lambda v: isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef"), "64 hexadecimal digits")
TEXTS: Kind = (lambda v: isinstance(v, list) and all(map(TEXT[0], v)), "a list of text")
NUMBER: Kind = (_number, "a number")
NUMBERS: Kind = (_numbers, "a list of numbers")
SECONDS: Kind = (lambda v: _number(v, 0) and v <= 3600, "a number from 0 to 3600")
MS: Kind = (lambda v: v is None or (_number(v) and v > 0), "null or a number more than 0")
LIMIT: Kind = (lambda v: v is None or _whole(v, 1), "null or a whole number, 1 or more")
LEVEL: Kind = (lambda v: _whole(v, 0, 255), "a whole number from 0 to 255")
SHAPE: Kind = (
    lambda v: isinstance(v, list) and len(v) == 4 and all(_whole(n, 1, 65_536) for n in v) and v[2] == v[3],
    "[1, channels, size, size]",
)
NAMES: Kind = (
    lambda v: isinstance(v, dict) and len(v) > 0 and all(name == Path(name).name and isinstance(v[name], dict) for name in v),
    "one or more files of the folder by name, with what is claimed of each",
)
INPUT: Kind = (lambda v: v in (PIXELS, NORMALIZED), f"{PIXELS} or {NORMALIZED}")
OUTPUT: Kind = (lambda v: v in (LOGITS, PROBABILITIES), f"{LOGITS} or {PROBABILITIES}")
DICT: Kind = (lambda v: isinstance(v, dict), "a mapping")
#: Every figure that is used, by its place; ``*`` is any key, and what is not there is passed over.
KINDS: dict[str, Kind] = {
    "name": TEXT, "input": DICT, "data": DICT, "files": NAMES, "timing": DICT, "host": DICT, "versions": DICT,
    "input/shape": SHAPE, "input/mean": NUMBERS, "input/std": NUMBERS, "input/kind": INPUT, "output": OUTPUT,
    "data/name": TEXT, "data/channels": COUNT, "data/classes": COUNT, "data/image_size": COUNT, "data/images": COUNT,
    "data/mean": NUMBERS, "data/std": NUMBERS, "data/test_limit": LIMIT, "data/names": TEXTS, "data/background": LEVEL,
    "files/*/bytes": BYTES, "files/*/sha256": HASH, "files/*/outputs_sha256": HASH, "files/*/runtime": TEXT,
    "files/*/precision": TEXT, "files/*/top1": NUMBER, "files/*/agreement": NUMBER, "files/*/measured_ms": MS,
    "files/*/cold_ms": MS, "files/*/agreement_reference": NUMBER, "files/*/identical_integers": NUMBER,
    OTHERS: DICT, f"{OTHERS}/*": NAMES, f"{OTHERS}/*/*/outputs_sha256": HASH, f"{OTHERS}/*/*/precision": TEXT,
    **{f"{OTHERS}/*/*/{key}": NUMBER for key in ("top1", "agreement", "agreement_reference", "identical_integers")},
    f"{OTHERS}/*/*/measured_ms": MS, f"{OTHERS}/*/*/cold_ms": MS,
    "timing/rounds": COUNT, "timing/runs": COUNT, "timing/threads": COUNT, "timing/spread_s": SECONDS,
    "runtime": TEXT, "host/cpu": TEXT, "host/flags": TEXTS, "versions/*": TEXT,
    "float_convolutions": BYTES, "limit_ms": MS, "speedup": MS, "agreement": NUMBER, "labels": TEXTS, "padding": TEXT,
    "activations": TEXT,
    "top1_runtime": NUMBER, "top1_fp32": NUMBER, "top1_reference": NUMBER, "quantization_loss": NUMBER, "fp32_ms": MS,
    "measured_ms": MS, "mmacs": NUMBER, "params": BYTES, "parity": DICT, BESIDE: DICT,
    f"{BESIDE}/*": DICT, f"{BESIDE}/*/bytes": BYTES, f"{BESIDE}/*/sha256": HASH, "card_sha256": HASH,
}  # fmt: skip
#: What has to be there of that which has to be there.
INNER = ("input/shape", "data/name", "data/images", "files/*/bytes", "files/*/sha256", "files/*/outputs_sha256",
         "files/*/runtime", "files/*/precision", "files/*/top1", "files/*/measured_ms", "timing/rounds", "timing/runs",
         "timing/threads", "timing/spread_s", "host/cpu", "host/flags",
         *(f"{OTHERS}/*/*/{key}" for key in ("outputs_sha256", "precision", "top1", "measured_ms")))  # fmt: skip


def read_card(folder: Path) -> dict[str, Any]:
    """``card.json`` of a model's folder.

    Raises:
        UserError: there is none, or it is truncated, or it does not say what can be checked, or says what cannot be.
    """
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"path={folder}: no readable card.json in it ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: truncated or not JSON; export the model again") from None
    missing = [key for key in NEEDED if not isinstance(card, dict) or key not in card]
    if missing:
        raise UserError(f"{path}: says nothing of {', '.join(missing)}: of an older version; export the model again")
    for place, (fits, allowed) in KINDS.items():
        for key, value in _at(card, place.split("/"), ""):
            if not fits(value):
                raise UserError(f"{path}: {bad_value(key, _short(value), allowed)}")
    for place in INNER:
        *above, last = place.split("/")
        for key, value in _at(card, above, ""):
            if last not in value:
                raise UserError(f"{path}: {key} says nothing of {last}; export the model again")
    unknown = next((one for one in ran(card) if one.file not in card["files"]), None)
    if unknown is not None:
        raise UserError(f"{path}: {unknown.key} is of no file that the card tells size and hash of")
    return card


def _at(part: Any, place: list[str], prefix: str) -> Iterator[tuple[str, Any]]:
    """The values at a place, each with its key."""
    if not place:
        yield prefix, part
    elif isinstance(part, dict):
        for name in part if place[0] == "*" else [place[0]]:
            if name in part:
                yield from _at(part[name], place[1:], f"{prefix}/{name}" if prefix else name)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_files(folder: Path, card: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that the card tells size and hash of, by name: the model files, and those beside them.

    Raises:
        UserError: one is missing, truncated, or not the file that the card was written for.
    """
    return {name: _read(folder / name, claims) for name, claims in {**card["files"], **card.get(BESIDE, {})}.items()}


def _read(path: Path, claims: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; the card has claims about it") from None
    if len(content) < claims["bytes"]:
        raise UserError(f"{path}: truncated, {len(content)} of {claims['bytes']} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != claims["sha256"]:
        raise UserError(f"{path}: changed, sha256 {found[:16]} and not the card's {claims['sha256'][:16]}")
    if len(content) != claims["bytes"]:
        raise UserError(f"{path}: {len(content)} bytes and not the card's {claims['bytes']}")
    return content
