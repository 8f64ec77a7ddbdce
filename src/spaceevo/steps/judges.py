"""How good a subnet is in the search: by the trained supernet on images, or by the accuracy table alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from spaceevo.data import Images, Normalized, normalize
from spaceevo.evolution import GeneCode
from spaceevo.evolution.genes import Genes
from spaceevo.evolution.loading import check_origin
from spaceevo.evolution.nsr_sums import NsrSums
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import ImageSource
from spaceevo.provenance import TAU
from spaceevo.space import Hyperspace, SearchSpace, Subnet
from spaceevo.steps.common import found_space, quantizer
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.config import TrainerConfig
from spaceevo.training.fit import device_of
from spaceevo.training.subnets import Part, Seen, SubnetEvaluator

CHUNK = 32  # subnets evaluated between two saves of what is known


@dataclass(frozen=True)
class Judge:
    """How good subnets are, higher is better: ``search`` while there are many, ``final`` of the few that are measured,
    ``judge`` of the chosen ones and the Pareto front, by images that nothing was chosen by.

    ``known``: subnets whose ``search`` quality is known beforehand. ``more``: further columns that the search tells of subnets.
    ``searched``: the column of the loss that the search goes by, ``judged``: of the last quality; ``sign``: -1 where that is a
    loss; ``worthless``: the reference point's quality, and ``reference``, what it is.
    """

    space: SearchSpace
    code: GeneCode
    search: Callable[[Genes], Sequence[float] | np.ndarray]
    final: Callable[[list[Subnet]], list[float]]
    judge: Callable[[list[Subnet]], list[float]]
    more: Callable[[list[Subnet]], dict[str, list[float]]]
    searched: str
    judged: str
    sign: int
    worthless: float
    reference: str
    known: Sequence[Subnet] = ()


class ByImages(Protocol):
    """How many images are for what."""

    validation_images: int
    judge_images: int
    calibration_images: int


class Steered(InASpace, OnADevice, Protocol):
    """What subnets of a supernet are evaluated by."""

    trainer: TrainerConfig

    @property
    def search_subnet(self) -> ByImages: ...


def supernet_judge(
    folder: Folder, cfg: Steered, hs: Hyperspace, progress: Callable[[int], object], total: int, limits: Sequence[float]
) -> Judge:
    """Quantized cross entropy on validation images, of the trained supernet's weights: of the first few in the search, of all
    but the last of the finalists; of the last the top-1 in percent of what was found. ``total``: how many subnets the search
    will ask for, within ``limits`` that rise."""
    net, space = load_supernet(folder.input("qat.ckpt"), hs)
    images = folder.images(cfg.data, False)
    choosing = range(len(images.val) - cfg.search_subnet.judge_images)
    judging = range(choosing.stop, len(images.val))
    before = evaluated_before(folder)
    searcher = searching(cfg, net, images, folder.partial / "evaluated.json")
    searcher.known |= before
    validation = Normalized(images.val, cfg.data)
    finals, judge = (
        evaluator(cfg, net, images, Part(validation, some), images.val_labels[some.start : some.stop], folder.partial / cache)
        for some, cache in ((choosing, "finalists.json"), (judging, "judged.json"))
    )
    code = GeneCode(space)
    telling = _Telling(total, sum(limits) / len(limits) / limits[0])

    def search(genes: Genes) -> list[float]:
        found: list[float] = []
        for start in range(0, len(genes), CHUNK):
            subnets = code.decode(genes[start : start + CHUNK])
            known = sum(str(subnet) in searcher.known for subnet in subnets)
            resumed = known - sum(str(subnet) in before for subnet in subnets)
            progress(resumed)  # before a kill
            began = time.monotonic()
            found += searcher.quality(subnets, progress)
            telling.took(time.monotonic() - began, len(subnets) - known, resumed)
        return found

    classes = cfg.data.classes
    chance = 100 / classes, f"chance level of {classes} classes"
    known = [Subnet.parse(space, text) for text in before]

    def more(subnets: list[Subnet]) -> dict[str, list[float]]:
        return {"top1_search": searcher.top1(subnets)}

    return Judge(space, code, search, finals.quality, judge.top1, more, "loss_search", "top1_val", 1, *chance, known)


def evaluated_before(folder: Folder) -> dict[str, Seen]:
    """What the images that steer the search say of the subnets that the table was judged by."""
    if TAU not in folder.reads:
        return {}
    frame = pd.read_parquet(folder.input(TAU))
    seen = map(Seen, frame.top1_search.tolist(), frame.loss_search.tolist())
    return dict(zip(frame.subnet, seen, strict=True))


def searching(cfg: Steered, net: Elastic, images: Images, cache: Path) -> SubnetEvaluator:
    """Evaluates subnets of a trained supernet on the validation images that steer the search, which stay in memory."""
    few = slice(cfg.search_subnet.validation_images)
    return evaluator(cfg, net, images, Normalized(images.val, cfg.data)[few], images.val_labels[few], cache)


def evaluator(cfg: Steered, net: Elastic, images: Images, pixels: ImageSource, labels: Tensor, cache: Path) -> SubnetEvaluator:
    """Evaluates subnets of a trained supernet on ``pixels``, their statistics recalibrated on training ``images``."""
    device = device_of(cfg.trainer.accelerator)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    return SubnetEvaluator(net.to(device), quantizer(cfg), calibration, pixels, labels, cache, device)


class _Telling:
    """Says once how long a search of ``total`` subnets will take, from the first that were evaluated, which are within the
    smallest limit; the others take ``longer`` times as long, as their limits allow."""

    def __init__(self, total: int, longer: float) -> None:
        self.left, self.longer, self.told = total, longer, False

    def took(self, seconds: float, fresh: int, known: int) -> None:
        """``fresh`` subnets took ``seconds``, and as many as ``known`` are no more to do."""
        self.left -= known
        if fresh and not self.told:
            left = seconds + seconds / fresh * self.longer * (self.left - fresh)
            say(f"search_subnet: about {left:.0f} s for {self.left} subnets")
            self.told = True


def lut_judge(
    folder: Folder, cfg: Steered, hs: Hyperspace, progress: Callable[[int], object], total: int, limits: Sequence[float]
) -> Judge:
    """The negative sum of the stages' NSR, by a model of the accuracy table's rows: no supernet is needed, no images, and
    no time, whatever the ``total`` and ``limits``."""
    space = found_space(folder, cfg, hs)
    code = GeneCode(space)
    table = folder.input("lut.parquet")
    check_origin(table, hs, cfg.device.name)
    proxy = NsrSums(code, pd.read_parquet(table))

    def search(genes: Genes) -> np.ndarray:
        progress(len(genes))
        return -proxy(genes)

    def final(subnets: list[Subnet]) -> list[float]:
        return (-proxy(code.encode(subnets))).tolist()

    def more(subnets: list[Subnet]) -> dict[str, list[float]]:
        return {}

    return Judge(space, code, search, final, final, more, "nsr", "nsr", -1, -proxy.worst, "the table's worst NSR sum")
