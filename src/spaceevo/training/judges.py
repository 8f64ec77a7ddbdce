"""How good a subnet is in the search: by the trained supernet on images, or by the accuracy table alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spaceevo.app.config import Config
from spaceevo.app.run import input_path, partial
from spaceevo.app.upstream import step_images
from spaceevo.data import Normalized, normalize
from spaceevo.evolution import GeneCode
from spaceevo.evolution.genes import Genes
from spaceevo.evolution.proxy import NSRProxy
from spaceevo.space import Hyperspace, SearchSpace, Subnet
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.recipes import found_space, quantizer
from spaceevo.training.subnets import SubnetEvaluator

CHUNK = 32  # subnets evaluated between two saves of what is known


@dataclass(frozen=True)
class Judge:
    """How good subnets are, higher is better: ``search`` while there are many, ``final`` of the few that are measured.

    ``measure``: the column's name; ``sign``: -1 where the column holds a loss; ``worthless``: the reference point's quality.
    """

    space: SearchSpace
    code: GeneCode
    search: Callable[[Genes], Sequence[float] | np.ndarray]
    final: Callable[[list[Subnet]], list[float]]
    measure: str
    sign: int
    worthless: float


def supernet_judge(cfg: Config, hs: Hyperspace, progress: Callable[[int], object]) -> Judge:
    """Quantized top-1 in percent on validation images, of the trained supernet's weights; few of them in the search."""
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hs)
    images, few = step_images("search_subnet", cfg), slice(cfg.search_subnet.validation_images)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    validation, folder, quant = Normalized(images.val, cfg.data), partial(cfg, "search_subnet"), quantizer(cfg)
    searcher = SubnetEvaluator(net, quant, calibration, validation[few], images.val_labels[few], folder / "evaluated.json")
    judge = SubnetEvaluator(net, quant, calibration, validation, images.val_labels, folder / "judged.json")
    code = GeneCode(space)

    def search(genes: Genes) -> list[float]:
        found: list[float] = []
        for start in range(0, len(genes), CHUNK):
            subnets = code.decode(genes[start : start + CHUNK])
            known = sum(str(subnet) in searcher.known for subnet in subnets)
            progress(known)  # before a kill
            found += searcher.quality(subnets, progress)
        return found

    return Judge(space, code, search, judge.quality, "top1", 1, 0.0)


def lut_judge(cfg: Config, hs: Hyperspace, progress: Callable[[int], object]) -> Judge:
    """The negative sum of the stages' NSR, by a model of the accuracy table's rows: no supernet is needed."""
    space = found_space(cfg, hs)
    code = GeneCode(space)
    proxy = NSRProxy(code, pd.read_parquet(input_path(cfg, "lut.parquet")))

    def search(genes: Genes) -> np.ndarray:
        progress(len(genes))
        return -proxy(genes)

    def final(subnets: list[Subnet]) -> list[float]:
        return (-proxy(code.encode(subnets))).tolist()

    return Judge(space, code, search, final, "nsr", -1, -proxy.worst)
