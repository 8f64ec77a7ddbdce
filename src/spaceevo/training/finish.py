"""``stage=finish``: every chosen subnet trained on alone, quantization-aware, from the weights it inherits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from spaceevo.app.config import Config, FinishConfig, hyperspace
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
    teaching = (
        cfg.finish.distill > 0 and not isinstance(images.train, FolderImages) and bool(cfg.finish.seconds or cfg.finish.epochs)
    )
    said: list[Tensor] = []  # what each that is finished answers
    finished_as: dict[str, Path] = {}
    chosen = yaml.safe_load(input_path(cfg, "pareto.yaml").read_text())["chosen"]
    for left, entry in reversed(list(enumerate(chosen))):
        path, done = output_path(cfg, f"finished/{entry['name']}.ckpt"), partial(cfg, "finish") / f"{entry['name']}.done"
        graph = subnet_graph(Subnet.parse(space, entry["subnet"]))
        known = path.exists() and done.exists()
        if entry["subnet"] in finished_as and not known:  # a larger limit's too
            atomic_write(path, finished_as[entry["subnet"]].read_bytes())
            say(f"finish: {entry['name']}: the same subnet as {finished_as[entry['subnet']].stem}")
        elif not known:
            own = Extracted(net, graph, {}).net.to(memory_format=torch.channels_last)
            inherited = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            labels = targets(cfg, images, said) if said else None
            times = cfg.finish.first if left and teaching and not finished_as else 1
            recipe = replace(
                cfg.finish,
                seconds=None if cfg.finish.seconds is None else times * cfg.finish.seconds,
                epochs=None if cfg.finish.epochs is None else times * cfg.finish.epochs,
            )
            steps = train_alone(cfg, recipe, "finish", entry["name"], own, graph, images, calibration, labels)
            finished = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            say(f"finish: {entry['name']}: {finished:.2f} % validation top-1 after {steps} steps, {inherited:.2f} % inherited")
            more: dict[str, Any] = dict(subnet=entry["subnet"], steps=steps, weight_bits=bits, split=images.split)
            save_supernet(path, own, space, top1_val=finished, top1_inherited=inherited, **more)
        if teaching and left and entry["subnet"] not in finished_as:
            said.append(answers(cfg, load_finished(path, space, bits)[0], graph, images, calibration))
        finished_as.setdefault(entry["subnet"], path)
        done.touch()


@torch.no_grad()
def answers(cfg: Config, net: Elastic, graph: Graph, images: Images, calibration: Tensor) -> Tensor:
    """Shares of the classes ``[2, N, classes]`` that ``net`` gives the training images as they are and, where ``data.flip``,
    mirrored. They are made once, not a step: of an image that ``data.shift`` moves, its unmoved one's stand."""
    stats = calibrate(net, graph, resized(calibration, graph.input.hw))
    sides = [images.train[:], images.train[:].flip(3)] if cfg.data.flip else [images.train[:]] * 2
    return torch.stack([logits(net, graph, stats, Normalized(side, cfg.data)).softmax(1) for side in sides])


def targets(cfg: Config, images: Images, said: Sequence[Tensor]) -> Tensor:
    """What a network is to answer, ``[2, N, classes]``: the label, and by the share ``finish.distill`` the mean of what others
    ``said`` (distillation: Hinton et al., 2015)."""
    label = F.one_hot(images.train_labels, cfg.data.classes).float()
    return torch.lerp(label.expand_as(said[0]), torch.stack(list(said)).mean(0), cfg.finish.distill)


def train_alone(
    cfg: Config,
    recipe: FinishConfig,
    step: str,
    name: str,
    own: Elastic,
    graph: Graph,
    images: Images,
    calibration: Tensor,
    labels: Tensor | None = None,
) -> int:
    """Train ``own``, all of ``graph``, in place by ``recipe``; a kill loses no finished epoch of the step ``step``. ``labels``:
    in place of the images' own, as :class:`~spaceevo.data.module.Batches` takes them.

    Returns:
        The number of steps.
    """
    folder = partial(cfg, step) / name
    data = ImagesModule(images, cfg.data, recipe.batch, cfg.seed + 2, labels=labels)
    module = AloneModule(own, graph, recipe, 0, cfg.seed, quantizer(cfg), calibration)
    if recipe.epochs is not None:
        module.steps = round(recipe.epochs * data.steps_per_epoch)
    if recipe.seconds or module.steps:
        set_pace(module, recipe.seconds, data.example(), cfg.trainer.precision, folder)
    epochs = math.ceil(module.steps / data.steps_per_epoch)
    fit(module, data, trainer_arguments(cfg), make_logger(cfg, f"{step}-{name}"), folder, epochs, module.steps)
    own.eval()
    return module.steps
