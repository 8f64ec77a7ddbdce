"""What the Q-T score of a run's spaces is made of: the accuracy table, the limits, and the fastest subnet of each space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spaceevo.errors import UserError, bad_value
from spaceevo.provenance import PREDICTOR, sha256
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Limited, OfASpace, OnADevice, Seeded, hyperspace
from spaceevo.steps.step import DATA

if TYPE_CHECKING:
    from spaceevo.evolution import QTScore, Table
    from spaceevo.space import SearchSpace

FAR_OFF = 100  # times the slowest subnet's latency, which no limit needs to be
FEW_ROWS = 100  # a key, below which a model of all rows tells more than a key's own
SPACES = 200  # that two halves of the table are compared on


class Scoring(Protocol):
    """How spaces are scored."""

    mode: str
    rows: str
    fitting: bool
    draws: int
    top: int


class Scored(OfASpace, OnADevice, Limited, Seeded, Protocol):
    """What the Q-T score of a space depends on; ``lut``: an accuracy table in place of the run's own."""

    lut: str | None

    @property
    def search_space(self) -> Scoring: ...


@dataclass(frozen=True)
class Tables:
    """What is searched, and what it would be with each half of the rows alone; none where a key has one row only.
    ``fastest``: the predicted ms of a space's fastest subnet, for a table of the run's own: the search for subnets needs it."""

    whole: Table
    halves: tuple[Table, ...]
    fastest: Callable[[SearchSpace], float] | None = None


def score_of(cfg: Scored, tables: Tables, limits: list[float], half: int | None = None) -> QTScore:
    """The Q-T score that ``search_space`` asks for; ``half``: of the table's rows, None: by all."""
    from spaceevo.evolution import QTScore

    recipe, table = cfg.search_space, tables.whole if half is None else tables.halves[half]
    within = predicted(cfg, limits)
    return QTScore(table, within, recipe.draws, recipe.top, cfg.seed, recipe.mode, recipe.fitting, tables.fastest)


def predicted(cfg: Scored, limits: list[float]) -> list[float]:
    """What the predicted ms of a subnet must keep for each of ``limits``: of a run's own table, whose spaces are searched for
    subnets next, as much less as that search asks for."""
    from spaceevo.latency.limits import HEADROOM

    return limits if cfg.lut is not None else [HEADROOM * limit for limit in limits]


def tell_far_off(step: str, limits: list[float], slowest_ms: float) -> None:
    """A line where limits are so far above the slowest subnet that they are likely in another unit."""
    far = [limit for limit in limits if limit > FAR_OFF * slowest_ms]
    if far:
        told = f"{step}: latency.limits_ms=[{', '.join(f'{limit:g}' for limit in far)}]"
        times = f"{min(far) / slowest_ms:.0f} times less"
        say(f"{told}: the slowest subnet takes {slowest_ms:.4g} ms, {times}: limits are in milliseconds")


def halves_tau(cfg: Scored, tables: Tables, limits: list[float]) -> float | None:
    """Kendall's tau of random spaces between the halves of the table."""
    import numpy as np

    from spaceevo.evolution.halves import agreement
    from spaceevo.space import SearchSpace

    if not tables.halves:
        return None
    rng = np.random.default_rng([cfg.seed, 0x7A0])
    spaces = [SearchSpace.sample(tables.whole.hyperspace, rng) for _ in range(SPACES)]
    one, other = (score_of(cfg, tables, limits, half) for half in range(2))
    return agreement(one, other, spaces)


def tables_of(folder: Folder, cfg: Scored) -> tuple[Tables, list[float]]:
    """The accuracy table, the run's own or the one given, as it is searched, and the limits in ms.

    Raises:
        UserError: ``search_space.rows=model`` for a given table.
    """
    from spaceevo.evolution import load_table
    from spaceevo.evolution.dense import DenseRows
    from spaceevo.evolution.halves import halves
    from spaceevo.latency.ends import ends_of
    from spaceevo.latency.limits import fastest_ms, limits_of_table, resolve_limits
    from spaceevo.latency.predictor import Predictor

    hs, rows = hyperspace(cfg), cfg.search_space.rows
    if cfg.lut is not None:
        if rows == "model":
            raise bad_value("search_space.rows", rows, "measured with lut=...: the model needs the run's latency predictor")
        if Path(cfg.lut).is_file():
            _compare_lut(folder, cfg, Path(cfg.lut))
        table = load_table(Path(cfg.lut), hs, cfg.device.name)
        return Tables(table, halves(table) or ()), limits_of_table(cfg.latency, table, cfg.seed)
    predictor = Predictor.load(folder.input(PREDICTOR))
    limits = resolve_limits(cfg.latency, predictor, hs, cfg.seed)
    table = load_table(folder.input("lut.parquet"), hs, cfg.device.name)
    parts = [table, *(halves(table) or ())]
    few = len(table.rows or ()) < FEW_ROWS * len(table.nsr)
    if rows == "model" or (rows == "auto" and few):
        dense = DenseRows(table, predictor.block_ms, ends_of(predictor, hs))
        parts = [dense.table(part.rows) for part in parts if part.rows is not None]
    enough = min(predicted(cfg, limits))
    return Tables(parts[0], tuple(parts[1:]), cache(lambda space: fastest_ms(predictor, space, enough))), limits


def _compare_lut(folder: Folder, cfg: Scored, path: Path) -> None:
    """A given table's images and teacher beside the run's; its hyperspace and device are compared by who reads it.

    Raises:
        UserError: it is of other images.
    """
    from spaceevo.evolution.files import origin_of

    origin = origin_of(path)
    if origin is None:
        what = "of which hyperspace, images and teacher it was made; of its rows, all but the block types are compared"
        say(f"{folder.step}: lut={path}: does not tell {what}")
        return
    mine = folder.subset(DATA)
    for key in DATA:
        if origin["data"].get(key) != mine.get(key):
            raise UserError(f"lut={path}: of other images: its {key} is {origin['data'].get(key)}, here it is {mine.get(key)}")
    splits = [record["split"] for record in folder.records() if record.get("split")]
    if any(split != origin["split"] for split in splits):
        raise UserError(f"lut={path}: of another split of the images than what run_dir={folder.shared} holds")
    teacher = folder.input("teacher.ckpt")
    if teacher.exists() and sha256(teacher) != origin["teacher"]:
        say(f"{folder.step}: lut={path}: of another teacher than {teacher}")
