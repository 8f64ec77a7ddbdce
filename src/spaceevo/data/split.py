"""Which of one's own images are for training, validation and test: of each class its share, copies of an image together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spaceevo.data.listing import PARTS
from spaceevo.errors import bad_value

#: Of a class's images, that are for validation, and that are for the test.
SHARE = 0.15


@dataclass(frozen=True)
class Members:
    """Images ``[N]``: the number of their class, sha256 of their content, and the part that they were put in, if any.
    ``given``: the parts that are there."""

    labels: np.ndarray
    contents: np.ndarray
    parts: np.ndarray
    given: tuple[str, ...]


def split(members: Members, validation: int, seed: int) -> dict[str, np.ndarray]:
    """The images' indices by part. Test images, where none are given, are those of a class whose content's hash is the
    smallest: they depend on neither ``seed`` nor names. ``validation`` (0: its share) of the others are drawn by ``seed``,
    of each class in proportion. Training and validation images are shuffled by ``seed``, all others in the hashes' order.

    Raises:
        UserError: ``validation`` is more than can be, or not what is given.
    """
    order = np.lexsort((members.labels, members.contents))
    side = np.array([PARTS.index(part) if part else 0 for part in members.parts])
    rng = np.random.default_rng([seed, 0x5EED])
    sizes = np.bincount(members.labels[members.parts != "test"], minlength=members.labels.max() + 1)
    if "test" not in members.given:
        for label in range(len(sizes)):
            mine = order[(members.labels[order] == label) & (side[order] == 0)]
            side[_first(mine, members.contents, _share(len(mine)))] = PARTS.index("test")
    if "val" in members.given:
        there = int((side == PARTS.index("val")).sum())
        if validation not in (0, there):
            raise bad_value("data.validation", validation, f"0 or {there}, the images that val has")
    else:
        pools = [order[(members.labels[order] == label) & (side[order] == 0)] for label in range(len(sizes))]
        for pool, count in zip(pools, _counts([len(pool) for pool in pools], sizes.tolist(), validation), strict=True):
            side[_drawn(pool, members.contents, count, rng)] = PARTS.index("val")
    shuffled = rng.permutation(order)
    return {
        part: (order if part == "test" else shuffled)[side[order if part == "test" else shuffled] == i]
        for i, part in enumerate(PARTS)
    }


def _share(count: int) -> int:
    """Of so many images; one at least where two or more are there."""
    return 0 if count < 2 else max(1, round(SHARE * count))


def _first(mine: np.ndarray, contents: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` of images in the order of their content, and the copies of the last; never all."""
    end = count
    while 0 < end < len(mine) and contents[mine[end]] == contents[mine[end - 1]]:
        end += 1
    return mine[: end if end < len(mine) else count]


def _drawn(pool: np.ndarray, contents: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` images of ``pool`` at random: whole groups of copies as long as they fit."""
    _, groups = np.unique(contents[pool], return_inverse=True)
    taken: list[int] = []
    left: list[int] = []
    for group in rng.permutation(groups.max() + 1 if len(pool) else 0):
        copies = pool[groups == group].tolist()
        (taken if len(taken) + len(copies) <= count else left).extend(copies)
    return np.array([*taken, *left][:count], int)


def _counts(pools: Sequence[int], sizes: Sequence[int], validation: int) -> list[int]:
    """How many validation images each class has: ``validation`` (0: the share of the ``sizes`` of the classes) in proportion to
    the pools, one at least where they suffice; one image of a pool stays for training."""
    pool = np.array(pools)
    most = np.maximum(0, pool - 1)
    validation = validation or int(np.minimum(most, list(map(_share, sizes))).sum())
    if validation > most.sum():
        raise bad_value(
            "data.validation", validation, f"0 or from 1 to {most.sum()}, of the {pool.sum()} images it is taken from"
        )
    least = np.minimum(most, 1 if validation >= (most > 0).sum() else 0)
    exact = validation * pool / max(1, pool.sum())
    counts = np.clip(exact.astype(int), least, most)
    while (missing := validation - int(counts.sum())) != 0:
        step = 1 if missing > 0 else -1
        may = counts < most if step > 0 else counts > least
        counts[np.where(may, (exact - counts) * step, -np.inf).argmax()] += step
    return [int(count) for count in counts]
