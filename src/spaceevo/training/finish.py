"""``stage=finish``: every chosen subnet trained on alone, quantization-aware, from the weights it inherits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from spaceevo.app.config import Config, FinishConfig, hyperspace
from spaceevo.app.run import input_path, output_path, partial, say
from spaceevo.app.steps import STEPS, command_for
from spaceevo.app.upstream import step_images
from spaceevo.atomic import atomic_write
from spaceevo.data import Images, ImagesModule, Normalized, normalize
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import recalibrated_top1
from spaceevo.nn.extract import Extracted
from spaceevo.space import Graph, Subnet, subnet_graph
from spaceevo.training.alone import AloneModule, set_pace
from spaceevo.training.checkpoint import load_supernet, save_supernet
from spaceevo.training.fit import fit
from spaceevo.training.recipes import make_logger, quantizer, start, trainer_arguments
from spaceevo.training.subnets import Part


def finish(cfg: Config) -> None:
    """One ``finished/<model>.ckpt`` for every entry of ``pareto.yaml``; its accuracy inherited and finished, on the validation
    images that chose nothing."""
    start(cfg)
    bits = quantizer(cfg).weight_bits
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hyperspace(cfg), command_for(STEPS["qat"], cfg), weight_bits=bits)
    images = step_images("finish", cfg)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    judging = range(len(images.val) - cfg.search_subnet.judge_images, len(images.val))
    validation = Part(Normalized(images.val, cfg.data), judging), images.val_labels[judging.start :]
    finished_as: dict[str, Path] = {}
    for entry in yaml.safe_load(input_path(cfg, "pareto.yaml").read_text())["chosen"]:
        path = output_path(cfg, f"finished/{entry['name']}.ckpt")
        if path.exists() and (partial(cfg, "finish") / f"{entry['name']}.done").exists():
            finished_as.setdefault(entry["subnet"], path)
            continue
        if entry["subnet"] in finished_as:  # a smaller limit's too
            atomic_write(path, finished_as[entry["subnet"]].read_bytes())
            (partial(cfg, "finish") / f"{entry['name']}.done").touch()
            say(f"finish: {entry['name']}: the same subnet as {finished_as[entry['subnet']].stem}")
            continue
        finished_as[entry["subnet"]] = path
        graph = subnet_graph(Subnet.parse(space, entry["subnet"]))
        own = Extracted(net, graph, {}).net.to(memory_format=torch.channels_last)
        inherited = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
        steps = train_alone(cfg, cfg.finish, "finish", entry["name"], own, graph, images, calibration)
        finished = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
        say(f"finish: {entry['name']}: {finished:.2f} % validation top-1 after {steps} steps, {inherited:.2f} % inherited")
        more: dict[str, Any] = dict(subnet=entry["subnet"], steps=steps, weight_bits=bits, split=images.split)
        save_supernet(path, own, space, top1_val=finished, top1_inherited=inherited, **more)
        (partial(cfg, "finish") / f"{entry['name']}.done").touch()


def train_alone(
    cfg: Config, recipe: FinishConfig, step: str, name: str, own: Elastic, graph: Graph, images: Images, calibration: Tensor
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
