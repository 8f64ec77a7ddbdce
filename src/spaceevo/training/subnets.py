"""Quality of a subnet in the search: quantized validation accuracy of inherited weights after BatchNorm recalibration."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spaceevo.atomic import write_json
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import ImageSource, recalibrated_top1
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


class SubnetEvaluator:
    """Top-1 in percent of subnets of one supernet; every subnet is evaluated once; a kill loses no finished ``quality``."""

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
        self.known: dict[str, float] = json.loads(cache.read_text()) if cache is not None and cache.exists() else {}

    def quality(self, subnets: Sequence[Subnet], progress: Callable[[int], object] | None = None) -> list[float]:
        """Accuracy of each."""
        fresh = [subnet for subnet in dict.fromkeys(subnets) if str(subnet) not in self.known]
        for subnet, accuracy in zip(fresh, self._each(self._top1, fresh), strict=True):
            self.known[str(subnet)] = accuracy
            if progress is not None:
                progress(1)
        if self.cache is not None:
            write_json(self.cache, self.known)
        return [self.known[str(subnet)] for subnet in subnets]

    def _top1(self, subnet: Subnet) -> float:
        graph = subnet_graph(subnet)
        return recalibrated_top1(self.net, graph, self.quantizer, self.calibration, self.images, self.labels)
