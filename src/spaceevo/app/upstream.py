"""What a step's inputs were made from: which version of their steps, which config, which split of the images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spaceevo.app.artifacts import SPLIT, Folders, config_subset, differing, outdated, partial, writes
from spaceevo.app.config import Config
from spaceevo.app.plan import command_for, inputs_of, producer_of
from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.provenance import Record
from spaceevo.steps import STEPS
from spaceevo.steps.step import Step

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.data.config import DataConfig


class Made(NamedTuple):
    """An artifact upstream of a step: what it is called, by which step it was made, as ``record`` tells, and the config
    subtrees that it may differ in."""

    path: Path
    maker: Step
    record: Record
    free: tuple[str, ...]


def upstream(step: Step, cfg: Config, folders: Folders) -> Iterator[Made]:
    """All that ``step`` reads under ``cfg`` and that has a record, then all that was read to make that, and so on; what an
    optional step made is shown as it is."""
    waiting, seen = [(step, step.free)], set()
    while waiting:
        reader, free = waiting.pop()
        for pattern in inputs_of(reader, cfg):
            maker = producer_of(pattern)
            held = folders.holder(maker)
            if held is None or maker.optional or (maker.name, free) in seen:
                continue
            seen.add((maker.name, free))
            yield Made(held[0] / pattern, maker, held[1], free)
            waiting.append((maker, (*free, *maker.free)))


def check_makers(step: Step, cfg: Config, folders: Folders) -> None:
    """Whether everything upstream of ``step`` was made by these versions of the steps, with ``cfg``, from what is there now.

    Raises:
        UserError: which artifact was made otherwise: the versions, or the keys that differ.
    """
    order = list(STEPS)  # the first can be run at once
    found = sorted(upstream(step, cfg, folders), key=lambda made: order.index(made.maker.name))
    for path, maker, record, _ in found:
        old = outdated(maker, record)
        if old is not None:
            raise UserError(f"{path} was {old}; {_remake(maker, cfg)}")
    for path, maker, record, free in found:
        remake = _remake(maker, cfg)
        differ = differing(record["config"], config_subset(maker, cfg), (*free, "seed"))
        if differ:
            raise UserError(f"{path} was made with another config ({', '.join(differ)}); {remake}")
        for read, content in record["inputs"].items():
            writer = next((m for m in map(producer_of, maker.inputs) if writes(m, read)), None)
            source = None if writer is None else folders.holder(writer)
            if source is not None and source[1]["outputs"].get(read) != content:
                raise UserError(f"{path} was made from another {read}; {remake}")


def step_images(step_name: str, cfg: Config, data: DataConfig, test: bool) -> Images:
    """The images that a step reads, as ``data`` describes them. Its record will tell their split, which is that of everything
    upstream.

    Raises:
        UserError: an artifact upstream, or the step's own work so far, is of another split; the images are missing.
    """
    from spaceevo.data import load_data

    step, images = STEPS[step_name], load_data(data, test)
    for path, maker, record, _ in upstream(step, cfg, Folders(cfg)):
        _check_split(path, record.get("split"), images.split, cfg, _remake(maker, cfg))
    begun = partial(cfg, step_name) / SPLIT
    if begun.exists():
        _check_split(begun.parent, json.loads(begun.read_text()), images.split, cfg, "remove that folder to start anew")
    write_json(begun, images.split)
    return images


def _remake(maker: Step, cfg: Config) -> str:
    return f"make it again with `{command_for(maker, cfg)}`"


def _check_split(path: Path, theirs: str | None, mine: str, cfg: Config, remedy: str) -> None:
    if theirs not in (None, mine):
        raise UserError(
            f"{path} was made with another split into training and validation images ({theirs[:12]}, here {mine[:12]}: "
            f"data.root={cfg.data.root} holds other images than then); {remedy}"
        )
