"""Whether a card is the one that was written, and agrees with itself: what shows without running a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spaceevo.deploy.claims.card import CARD_HASH, card_hash
from spaceevo.deploy.claims.claim import Claim
from spaceevo.deploy.claims.gate import COMPARED, OTHERS
from spaceevo.deploy.claims.ran import place_of
from spaceevo.deploy.runtimes.registry import runtime_of_card
from spaceevo.errors import UserError


def twice(card: Mapping[str, Any]) -> dict[str, str]:
    """Figures that a card tells twice: those of its runtime's files, and of its data."""
    runtime = runtime_of_card(card)
    int8, fp32 = f"{place_of(runtime)}/{runtime.int8}", f"{place_of(runtime)}/{runtime.fp32}"
    return {
        "bytes": f"files/{runtime.int8}/bytes",
        **{key: f"{int8}/{key}" for key in ("measured_ms", "quantiles_ms", "cold_ms", *COMPARED)},
        **{f"fp32_{key}": f"{fp32}/{key}" for key in ("quantiles_ms", "cold_ms")},
        "fp32_ms": f"{fp32}/measured_ms",
        "top1_runtime": f"{int8}/top1",
        "top1_fp32": f"{fp32}/top1",
        "data/names": "labels",
        "input/mean": "data/mean",
        "input/std": "data/std",
    }


def seal_claim(card: Mapping[str, Any]) -> Claim:
    """Whether the card is as it was written, by its own hash; an older one has none."""
    if CARD_HASH not in card:
        return Claim("card", "sha256", "none: of an older version", "not checked")
    claimed, found = card[CARD_HASH], card_hash(card)
    here = "the same" if found == claimed else f"{found[:16]}: changed since it was written"
    return Claim("card", "sha256", claimed[:16], here, found == claimed, must=True, keys=(CARD_HASH,))


def repeats_claim(card: Mapping[str, Any], parity: bytes | None, where: Path, checked: set[str]) -> Claim:
    """Whether what the card tells twice, or follows from what else it tells, is the same, there and in ``parity.json``
    in the folder ``where``. ``checked``: the keys that are judged on their own; with them are those that repeat them.

    Raises:
        UserError: ``parity.json`` is truncated or something else.
    """
    found = list(_repeats(card)) + list(_in_parity(card, parity, where / "parity.json"))
    wrong = [f"{key} is not {other}" for key, other, same in found if not same]
    keys = tuple(key for key, other, _ in found if set(other.split(" - ")) <= checked)
    here = "; ".join(wrong) or "the same"
    return Claim("card", "what it tells twice", f"{len(found)} figures", here, not wrong, must=True, keys=keys)


def _repeats(card: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """A key, what it repeats, and whether it does."""
    told = twice(card)
    for key, other in told.items():
        if (value := _get(card, key)) is not _NONE and (twin := _get(card, other)) is not _NONE:
            yield key, other, value == twin
    if "quantization_loss" in card:
        yield (
            "quantization_loss",
            f"{told['top1_fp32']} - {told['top1_runtime']}",
            _near(card["quantization_loss"], card.get("top1_fp32"), card.get("top1_runtime")),
        )
    if "speedup" in card:
        fp32, int8 = card.get("fp32_ms"), card.get("measured_ms")
        ratio = None if fp32 is None or int8 is None else fp32 / int8
        same = card["speedup"] is ratio if ratio is None else _near(card["speedup"], ratio, 0)
        yield "speedup", "fp32_ms / measured_ms", same
    if "resolution" in card:
        yield "resolution", "input/shape", card["resolution"] == card["input"]["shape"][-1]
    if "channels" in card["data"]:
        yield "data/channels", "input/shape", card["data"]["channels"] == card["input"]["shape"][1]


def _near(value: Any, minuend: Any, subtrahend: Any) -> bool:
    try:
        return math.isclose(value, minuend - subtrahend, rel_tol=1e-9, abs_tol=1e-9)
    except TypeError:
        return False


def _in_parity(card: Mapping[str, Any], content: bytes | None, path: Path) -> Iterator[tuple[str, str, bool]]:
    """The same of what ``parity.json`` repeats."""
    if content is None:
        return
    try:
        report = json.loads(content)
        told = dict(images=report["images"], ops=len(report["ops"]), first_apart=report["first_apart"])
        files = {f"files/{name}": {key: figures[key] for key in COMPARED} for name, figures in report["files"].items()}
        for runtime, figures in report.get(OTHERS, {}).items():
            files |= {f"{OTHERS}/{runtime}/{name}": {key: told[key] for key in COMPARED} for name, told in figures.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: truncated or no report of the parity gate") from None
    yield "parity", "parity.json's", card.get("parity") == told
    for place, figures in files.items():
        for key, value in figures.items():
            yield f"{place}/{key}", "parity.json's", _get(card, f"{place}/{key}") == value


_NONE = object()


def _get(card: Mapping[str, Any], key: str) -> Any:
    """The value at ``files/model.onnx/top1``; ``_NONE`` where there is none."""
    part: Any = card
    for name in key.split("/"):
        if not isinstance(part, dict) or name not in part:
            return _NONE
        part = part[name]
    return part
