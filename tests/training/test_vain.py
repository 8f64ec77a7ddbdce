"""What cannot train, or not as it was asked to, is told with its figures."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spaceevo.data import Images, ImagesModule
from spaceevo.errors import UserError
from spaceevo.latency.measure import measure
from spaceevo.steps.common import start, vain
from spaceevo.steps.folder import usable_threads

CORES = os.cpu_count() or 1


def lines(images: int = 64, batch: int = 16, epochs: int = 2, limit: int | None = None, warmup: float = 0.1) -> list[str]:
    pixels, labels = torch.zeros(images, 1, 8, 8, dtype=torch.uint8), torch.zeros(images, dtype=torch.long)
    cfg: Any = SimpleNamespace(flip=False, shift=0, workers=0, balanced=False, augment=None, erase=0, mix=None)
    data = ImagesModule(Images(pixels, labels, pixels, labels), cfg, batch, 0, limit=limit)
    module: Any = SimpleNamespace(steps=epochs * data.steps_per_epoch, recipe=SimpleNamespace(warmup=warmup))
    return vain(module, data, epochs)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"epochs": 0}, "0 steps: nothing is trained, the weights stay as they are"),
        ({"batch": 65}, "batch=65: an epoch has 64 images, which are one batch"),
        ({"batch": 64, "limit": 40}, "batch=64: an epoch has 40 images, which are one batch"),
        ({"warmup": 0.9}, "warmup=0.9: none of 8 steps comes after it, so the rate never falls"),
    ],
)
def test_what_is_in_vain_is_told(how: dict[str, Any], said: str) -> None:
    assert lines(**how) == [said]
    assert lines() == []


def test_no_more_threads_than_cores_train(capsys: pytest.CaptureFixture[str]) -> None:
    usable_threads.cache_clear()
    threads = torch.get_num_threads()
    try:
        for _ in range(2):
            start(SimpleNamespace(seed=0, threads=CORES + 97))  # type: ignore[arg-type]
        assert torch.get_num_threads() == CORES == usable_threads(0)
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().out.count(f"threads={CORES + 97}: this machine has {CORES} cores") == 1


def test_no_more_processes_than_cores_read_images() -> None:
    pixels, labels = torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    for workers in (0, 1, CORES + 7):
        cfg: Any = SimpleNamespace(flip=False, shift=0, workers=workers, balanced=False, augment=None, erase=0, mix=None)
        loader = ImagesModule(Images(pixels, labels, pixels, labels), cfg, 4, 0).train_dataloader()
        assert loader.num_workers == min(workers, CORES)


def test_more_threads_than_cores_are_not_measured() -> None:
    with pytest.raises(UserError, match=rf"^device\.threads={CORES + 1}: must be at most {CORES}, the cores of this machine$"):
        measure({"a": b"no model"}, 1, 1, CORES + 1)
