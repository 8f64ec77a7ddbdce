"""Independent small jobs side by side: one thread each beats all threads on one small tensor after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def parallel(job: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``job`` of every item, in order, on as many workers as torch has threads; each job computes on one thread, so its
    result does not depend on their number."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(job, items)
        finally:
            torch.set_num_threads(threads)
