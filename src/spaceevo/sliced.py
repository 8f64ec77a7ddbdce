"""What is sliced like an array, and may be made only when asked for."""

from __future__ import annotations

from typing import Protocol, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Sliced(Protocol[T_co]):
    """``len`` and slices along the first dimension."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice, /) -> T_co: ...
