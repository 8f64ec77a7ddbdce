"""``stage=finish``: every chosen subnet trained on alone, quantization-aware, from the weights it inherits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from spaceevo.app.config import Config, FinishConfig, TimedConfig, hyperspace
from spaceevo.app.run import input_path, output_path, partial, say
from spaceevo.app.steps import STEPS, command_for
from spaceevo.app.upstream import step_images
from spaceevo.atomic import atomic_write
from spaceevo.data import Images, ImagesModule, Normalized, normalize
from spaceevo.data.folder import FolderImages
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import calibrate, logits, recalibrated_top1, resized
from spaceevo.nn.extract import Extracted
from spaceevo.space import Graph, Subnet, subnet_graph
from spaceevo.training.alone import AloneModule, set_pace
from spaceevo.training.checkpoint import load_finished, load_supernet, save_supernet
from spaceevo.training.fit import fit
from spaceevo.training.recipes import make_logger, quantizer, start, trainer_arguments
from spaceevo.training.subnets import Part


def finish(cfg: Config) -> None:
    """One ``finished/<model>.ckpt`` for every entry of ``pareto.yaml``, that of the largest limit first, and the others from
    its answers too; accuracy inherited and finished, on the validation images that chose nothing."""
    start(cfg)
    bits = quantizer(cfg).weight_bits
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hyperspace(cfg), command_for(STEPS["qat"], cfg), weight_bits=bits)
    images = step_images("finish", cfg)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    judging = range(len(images.val) - cfg.search_subnet.judge_images, len(images.val))
    validation = Part(Normalized(images.val, cfg.data), judging), images.val_labels[judging.start :]
    teaching = cfg.finish.at_all and cfg.finish.distill > 0 and not isinstance(images.train, FolderImages)
    names: dict[str, list[str]] = {}  # of the models that are one subnet; the largest limit's come first
    for entry in reversed(yaml.safe_load(input_path(cfg, "pareto.yaml").read_text())["chosen"]):
        names.setdefault(entry["subnet"], []).append(entry["name"])
    said: Tensor | None = None  # what the first answers
    for place, (subnet, (name, *others)) in enumerate(names.items()):
        graph, teaches = subnet_graph(Subnet.parse(space, subnet)), teaching and place == 0 and len(names) > 1
        path = output_path(cfg, f"finished/{name}.ckpt")
        if not _done(cfg, path):
            own = Extracted(net, graph, {}).net.to(memory_format=torch.channels_last)
            inherited = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            taught = images if said is None else replace(images, train_labels=targets(cfg, images, said))
            recipe = longer(cfg.finish, cfg.finish.first) if teaches else cfg.finish
            steps = train_alone(cfg, recipe, "finish", name, own, graph, taught, calibration)
            finished = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            say(f"finish: {name}: {finished:.2f} % validation top-1 after {steps} steps, {inherited:.2f} % inherited")
            more: dict[str, Any] = dict(subnet=subnet, steps=steps, weight_bits=bits, split=images.split)
            save_supernet(path, own, space, top1_val=finished, top1_inherited=inherited, **more)
            _mark(cfg, path).touch()
        for other in others:
            copy = output_path(cfg, f"finished/{other}.ckpt")
            if not _done(cfg, copy):
                atomic_write(copy, path.read_bytes())
                _mark(cfg, copy).touch()
                say(f"finish: {other}: the same subnet as {name}")
        if teaches:
            said = answers(cfg, load_finished(path, space, bits)[0], graph, images, calibration)


def _mark(cfg: Config, path: Path) -> Path:
    """Stands once the checkpoint ``path`` is this run's."""
    return partial(cfg, "finish") / f"{path.stem}.done"


def _done(cfg: Config, path: Path) -> bool:
    return path.exists() and _mark(cfg, path).exists()


def longer(recipe: FinishConfig, times: float) -> FinishConfig:
    """The recipe for ``times`` its seconds or epochs."""
    length = {key: getattr(recipe, key) for key in ("seconds", "epochs")}
    return replace(recipe, **{key: value * times for key, value in length.items() if value is not None})


@torch.no_grad()
def answers(cfg: Config, net: Elastic, graph: Graph, images: Images, calibration: Tensor) -> Tensor:
    """Shares of the classes ``[1 or 2, N, classes]`` that ``net`` gives the training images as they are and, where
    ``data.flip``, mirrored. They are made once, not a step: of an image that ``data.shift`` moves, its unmoved one's stand."""
    stats = calibrate(net, graph, resized(calibration, graph.input.hw))
    sides = [images.train, images.train[:].flip(3)] if cfg.data.flip else [images.train]
    return torch.stack([logits(net, graph, stats, Normalized(side, cfg.data)).softmax(1) for side in sides])


def targets(cfg: Config, images: Images, said: Tensor) -> Tensor:
    """What a network is to answer, ``[1 or 2, N, classes]``: the label, and by the share ``finish.distill`` what another
    ``said`` (distillation: Hinton et al., 2015)."""
    label = F.one_hot(images.train_labels, cfg.data.classes).float()
    return torch.lerp(label.expand_as(said), said, cfg.finish.distill)


def train_alone(
    cfg: Config, recipe: TimedConfig, step: str, name: str, own: Elastic, graph: Graph, images: Images, calibration: Tensor
) -> int:
    """Train ``own``, all of ``graph``, in place by ``recipe``; a kill loses no finished epoch of the step ``step``.

    Returns:
        The number of steps.
    """
    folder = partial(cfg, step) / name
    data = ImagesModule(images, cfg.data, recipe.batch, cfg.seed + 2)
    module = AloneModule(own, graph, recipe, 0, cfg.seed, quantizer(cfg), calibration)
    if recipe.epochs is not None:
        module.steps = round(recipe.epochs * data.steps_per_epoch)
    if recipe.seconds or module.steps:
        set_pace(module, recipe.seconds, data.example(), cfg.trainer.precision, folder)
    epochs = math.ceil(module.steps / data.steps_per_epoch)
    fit(module, data, trainer_arguments(cfg), make_logger(cfg, f"{step}-{name}"), folder, epochs, module.steps)
    own.eval()
    return module.steps
