"""How good a subnet is with the quantized weights that it inherits, after BatchNorm recalibration, on validation images.

The search goes by the cross entropy: that of 1,500 images orders subnets as the top-1 of 8,500 others does to a tau of
0.83, their top-1 to 0.72 (``docs/training.md``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import ImageSource, recalibrated, top1
from spaceevo.nn.parallel import parallel
from spaceevo.space import Subnet, subnet_graph

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """``images`` of a range of numbers, made when asked for."""

    images: ImageSource
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, which: slice) -> Tensor:
        some = self.numbers[which]
        return self.images[some.start : some.stop]


@dataclass(frozen=True)
class OnDevice:
    """``images``, each slice moved to ``device`` when asked for."""

    images: ImageSource
    device: torch.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice) -> Tensor:
        return self.images[which].to(self.device)


class Seen(NamedTuple):
    """What images say of a subnet: top-1 in percent, and the mean cross entropy of their labels (nats)."""

    top1: float
    loss: float


class SubnetEvaluator:
    """What images say of subnets of one supernet; every subnet is evaluated once; a kill loses no finished ``seen``."""

    def __init__(
        self,
        net: Elastic,
        quantizer: Quantizer,
        calibration: Tensor,
        images: ImageSource,
        labels: Tensor,
        cache: Path | None = None,
        device: torch.device = CPU,
    ) -> None:
        """``calibration``, ``images``: normalized ``[N, C, H, W]``; ``cache``: a JSON file that outlives a kill; ``device``:
        that of ``net``, to which the images are moved batch by batch."""
        self.net, self.quantizer, self.calibration = net, quantizer, OnDevice(calibration, device)
        self.images, self.labels, self.cache = OnDevice(images, device), labels, cache
        self._each = parallel if device.type == "cpu" else map  # a GPU takes one after the other
        before = json.loads(cache.read_text()) if cache is not None and cache.exists() else {}
        self.known: dict[str, Seen] = {subnet: Seen(*seen) for subnet, seen in before.items()}

    def seen(self, subnets: Sequence[Subnet], progress: Callable[[int], object] | None = None) -> list[Seen]:
        """What the images say of each."""
        fresh = [subnet for subnet in dict.fromkeys(subnets) if str(subnet) not in self.known]
        for subnet, seen in zip(fresh, self._each(self._evaluated, fresh), strict=True):
            self.known[str(subnet)] = seen
            if progress is not None:
                progress(1)
        if self.cache is not None:
            write_json(self.cache, self.known)
        return [self.known[str(subnet)] for subnet in subnets]

    def top1(self, subnets: Sequence[Subnet]) -> list[float]:
        """Accuracy of each in percent."""
        return [seen.top1 for seen in self.seen(subnets)]

    def quality(self, subnets: Sequence[Subnet], progress: Callable[[int], object] | None = None) -> list[float]:
        """What the search goes by: the negative cross entropy of each."""
        return [-seen.loss for seen in self.seen(subnets, progress)]

    def _evaluated(self, subnet: Subnet) -> Seen:
        scores = recalibrated(self.net, subnet_graph(subnet), self.quantizer, self.calibration, self.images)
        return Seen(top1(scores, self.labels), float(F.cross_entropy(scores.float(), self.labels)))
