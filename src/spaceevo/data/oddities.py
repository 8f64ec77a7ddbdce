"""What is odd about one's own images, though it can be learned from: a line each, said before anything is trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from spaceevo.data.own import Own, some

#: Fewer images of a class than this, more of one class than of another than this, and a shorter side than this are odd.
FEW, IMBALANCE, TINY = 5, 20, 8
#: Images by the ends of their names, that PIL does not read.
UNREAD = (".heic", ".heif", ".raw", ".dng", ".nef", ".cr2", ".arw", ".psd", ".svg", ".jxl")


def oddities(own: Own, parts: dict[str, np.ndarray]) -> Iterator[str]:
    """What a user should know of images that are divided into ``parts``."""
    names, labels = own.listing.names, own.members.labels
    counts = np.bincount(labels, minlength=len(names))
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < FEW]
    if few:
        yield f"classes with fewer than {FEW} images: {some(few)}"
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > IMBALANCE * counts[least]:
        yield (
            f"imbalance: {counts[most]:,} images of {names[most]}, {counts[least]:,} of {names[least]}: who always says "
            f"{names[most]} is right for {100 * counts[most] / len(labels):.0f} %; data.balanced=true learns all classes alike"
        )
    for part, word in (("val", "validation"), ("test", "test")):
        none = [name for label, name in enumerate(names) if label not in labels[parts[part]]]
        if none:
            yield f"no {word} image of {some(none)}"
    yield from _copies(own, parts)
    yield from _numbers(names)
    tiny = [
        f"{own.listing.short(file.path)} ({seen.width}x{seen.height})"
        for file, seen in zip(own.files, own.seen, strict=True)
        if min(seen.width, seen.height) < TINY
    ]
    if tiny:
        yield f"images with a side of fewer than {TINY} pixels: {some(tiny)}"
    unread = [f"{count} {end}" for end, count in own.listing.skipped.items() if end in UNREAD]
    if unread:
        yield f"images that are skipped since they cannot be read here: {some(unread)}; save them as JPEG or PNG"


def _copies(own: Own, parts: dict[str, np.ndarray]) -> Iterator[str]:
    """Files with the same content: in two parts, under two labels, or just twice."""
    part_of = {int(i): part for part, indices in parts.items() for i in indices}
    groups: dict[str, list[int]] = defaultdict(list)
    for i, seen in enumerate(own.seen):
        groups[seen.sha256].append(i)
    same = [group for group in groups.values() if len(group) > 1]
    disputed = [group for group in same if len({own.files[i].name for i in group}) > 1]
    apart = [group for group in same if len({part_of[i] for i in group}) > 1 and group not in disputed]

    def pairs(found: list[list[int]]) -> str:
        return some([" = ".join(own.listing.short(own.files[i].path) for i in group[:2]) for group in found], 3)

    if apart:
        yield f"the same image in two of train, val and test, {len(apart):,} times: {pairs(apart)}"
    if disputed:
        yield f"the same image in two classes, {len(disputed):,} times: {pairs(disputed)}"
    copies = sum(len(group) - 1 for group in same)
    if copies and not apart and not disputed:
        yield f"files that are copies of another: {copies:,} ({pairs(same)})"


def _numbers(names: list[str]) -> Iterator[str]:
    """Classes that are called by numbers, of which some are left out."""
    if all(name.isascii() and name.isdigit() for name in names):
        numbers = {int(name) for name in names}
        lacking = sorted(set(range(min(numbers), min(max(numbers), min(numbers) + 10**6))) - numbers)
        if lacking:
            yield (
                f"labels are numbers without {some(list(map(str, lacking)))}: the model's outputs are numbered from 0 to "
                f"{len(names) - 1}, and named {some(names)}"
            )
