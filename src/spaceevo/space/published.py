"""What the paper and its release call by a name: search spaces and models, as encodings, and rows of its Table 1
(``conf/published.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from spaceevo.errors import bad_choice
from spaceevo.paths import conf_dir
from spaceevo.space.hyperspace import load_hyperspace

MMACS = 1.0  # Table 1 prints whole ones: a released encoding that is no further off is its model


@dataclass(frozen=True)
class PublishedModel:
    """A released model. ``paper``: the row of Table 1 that its name stands for: ``mmacs``, ``int8_ms``, ``int8_top1``
    and ``fp32_top1`` in percent, ``speedup``."""

    name: str
    space: str
    subnet: str
    paper: dict[str, float]

    def is_another(self, mmacs: float) -> bool:
        """Whether its released encoding, of so many ``mmacs``, is another model than Table 1's of that name."""
        return abs(mmacs - self.paper["mmacs"]) > MMACS


def published_space(name: str) -> str:
    """The encoding of a named search space.

    Raises:
        UserError: there is none of that name.
    """
    return str(_named("space", name))


def published_spaces() -> dict[str, str]:
    """Encodings by name."""
    return dict(_read()["spaces"])


def published_model(name: str) -> PublishedModel:
    """A model by name.

    Raises:
        UserError: there is none of that name.
    """
    entry = _named("model", name)
    return PublishedModel(name, published_space(entry["space"]), entry["subnet"], dict(entry["paper"]))


def published_models() -> list[str]:
    """The names of all models."""
    return list(_read()["models"])


def table_1(name: str) -> dict[str, dict[str, float]]:
    """The rows of the paper's Table 1 that a published model or a network of :mod:`spaceevo.space.imagenet` stands for, by
    device (``intel_vnni``, ``pixel4``): what :attr:`PublishedModel.paper` has. Empty where the table has none."""
    if name not in _read()["models"]:
        return {device: dict(row) for device, row in _read()["table1"].get(name, {}).items()}
    model = published_model(name)
    return {load_hyperspace(model.space.split("-")[0]).device: model.paper}


def _named(kind: str, name: str) -> Any:
    """The entry ``name`` of all spaces or models."""
    entries = _read()[f"{kind}s"]
    if name not in entries:
        raise bad_choice(kind, name, entries)
    return entries[name]


@cache
def _read() -> dict[str, Any]:
    return yaml.safe_load((conf_dir() / "published.yaml").read_text())
