"""What all subnets of a run are finished with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from spaceevo.data import Images, Normalized, normalize
from spaceevo.nn.elastic import Elastic
from spaceevo.space import SearchSpace
from spaceevo.steps.common import quantizer
from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import Calibrated, InASpace, OnADevice, hyperspace
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.subnets import Part


class Needs(InASpace, OnADevice, Protocol):
    """What it reads of the config."""

    @property
    def search_subnet(self) -> Calibrated: ...


@dataclass(frozen=True)
class Given:
    """The trained supernet, and images to learn from, to calibrate on and to judge by."""

    net: Elastic
    space: SearchSpace
    images: Images
    calibration: Tensor
    validation: tuple[Part, Tensor]

    @staticmethod
    def of(folder: Folder, cfg: Needs) -> Given:
        """Of a run folder."""
        qat = folder.input("qat.ckpt"), hyperspace(cfg), folder.maker("qat.ckpt")
        net, space = load_supernet(*qat, quantizer=quantizer(cfg))
        images = folder.images(cfg.data, False)
        calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
        judging = range(len(images.val) - cfg.search_subnet.judge_images, len(images.val))
        validation = Part(Normalized(images.val, cfg.data), judging), images.val_labels[judging.start :]
        return Given(net, space, images, calibration, validation)
