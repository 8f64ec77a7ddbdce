"""How a step trains one network alone: a found subnet, or a standard one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from spaceevo.data import Images, ImagesModule
from spaceevo.data.module import Easy
from spaceevo.nn.elastic import Elastic
from spaceevo.space import Graph
from spaceevo.steps.common import quantizer, rates_of, train, trainer_arguments
from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import OfASpace, OnADevice, Trained
from spaceevo.training.alone import AloneModule, set_pace
from spaceevo.training.config import TimedConfig
from spaceevo.training.watch import Bar


class Needs(Trained, OfASpace, OnADevice, Protocol):
    """What it reads of the config."""


def train_alone(
    folder: Folder,
    cfg: Needs,
    recipe: TimedConfig,
    name: str,
    own: Elastic,
    graph: Graph,
    images: Images,
    calibration: Tensor,
    easy: Easy | None = None,
) -> int:
    """Train ``own``, all of ``graph``, in place by ``recipe``; a kill loses no finished epoch. ``easy``: the images of which an
    epoch has but a share.

    Returns:
        The number of steps.
    """
    part = folder.partial / name
    described = replace(cfg.data, shift=max(cfg.data.shift, recipe.shift))
    data = ImagesModule(images, described, recipe.batch, cfg.seed + 2, easy=easy)
    module = AloneModule(own, graph, recipe, 0, cfg.seed, quantizer(cfg), calibration)
    if recipe.epochs is not None:
        module.steps = round(recipe.epochs * data.steps_per_epoch)
    if recipe.seconds or module.steps:
        auto = cfg.trainer.precision == "auto"
        set_pace(module, recipe.seconds, data, trainer_arguments(cfg.trainer), auto, part)
    epochs = math.ceil(module.steps / data.steps_per_epoch)
    bar, rates = Bar.of(cfg.data.classes, recipe.batch), rates_of(folder.step, recipe)
    train(folder, cfg, f"{folder.step}-{name}", rates, module, data, part, epochs, module.steps, bar)
    own.eval()
    return module.steps
