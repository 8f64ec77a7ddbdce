"""What is claimed, and whether it holds: a row of the table that ``verify`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One claim: ``card`` and ``here`` in words; ``holds`` None: told, not judged; ``must``: the model is refused without.
    ``keys``: the figures of the card, as ``files/model.onnx/top1``, that are judged with it; of a dict, all in it."""

    of: str
    what: str
    card: str
    here: str
    holds: bool | None = None
    must: bool = False
    keys: tuple[str, ...] = ()


def judged(claims: Iterable[Claim]) -> set[str]:
    """The keys of all claims that are judged."""
    return {key for claim in claims if claim.holds is not None for key in claim.keys}


def not_checked(card: Mapping[str, Any], claims: Iterable[Claim]) -> list[str]:
    """What of a card none of the ``claims`` has judged; a dict of which nothing was is named alone."""
    return list(_left("", card, judged(claims)))


def _left(prefix: str, part: Mapping[str, Any], keys: set[str]) -> Iterator[str]:
    for name, value in part.items():
        path = f"{prefix}{name}"
        if path in keys:
            continue
        if isinstance(value, dict) and any(key.startswith(f"{path}/") for key in keys):
            yield from _left(f"{path}/", value, keys)
        else:
            yield path


def table(claims: Iterable[Claim]) -> str:
    """The claims as lines of equal columns."""
    words = {True: "yes", False: "NO", None: ""}
    rows = [("of", "claim", "on the card", "here", "holds")]
    rows += [(claim.of, claim.what, claim.card, claim.here, words[claim.holds]) for claim in claims]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
