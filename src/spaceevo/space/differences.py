"""Whether what was made for a hyperspace is of this one: its fields, flat, and the first that differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spaceevo.space.hyperspace import Hyperspace

LABELS = ("name", "device", "channels", "classes")  # fields that change no search space; the last two are of the images


def described(hs: Hyperspace) -> dict[str, str]:
    """Every field of a hyperspace, flat: ``{"stages[0].widths": "(8, 16)", ...}``."""
    return dict(_flat("", hs.to_dict()))


def difference(theirs: Mapping[str, str], hs: Hyperspace, but: Sequence[str] = ()) -> str | None:
    """Where a hyperspace that was ``described`` is not ``hs``, in words, ``but`` for some fields; None: nowhere."""
    mine = described(hs)
    differ = (key for key in theirs if theirs[key] != mine.get(key) and key not in but)
    key = next(differ, None)
    return None if key is None else f"its hyperspace.{key} is {theirs[key]}, here it is {mine.get(key)}"


def hyperspace_sha256(hs: Hyperspace) -> str:
    """Of all that makes search spaces of it, in hex."""
    fields = {key: value for key, value in described(hs).items() if key not in LABELS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            yield from _flat(f"{key}[{i}]", item)
    else:
        yield key, str(value)
