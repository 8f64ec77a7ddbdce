"""The four trainings of the pipeline, from config to artifacts: teacher, BKD, supernet, QAT."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from safetensors.torch import load_file

from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, output_path, partial, say
from spaceevo.app.upstream import step_images
from spaceevo.atomic import write_json, write_safetensors
from spaceevo.data import ImagesModule, Normalized, input_range, normalize
from spaceevo.errors import UserError
from spaceevo.latency.host import weight_bits
from spaceevo.nn.elastic import Quantizer
from spaceevo.nn.evaluate import recalibrated_top1, resized, top1
from spaceevo.space import Hyperspace, SearchSpace, Subnet, subnet_graph
from spaceevo.training.bkd import BKDModule, Student, student_specs
from spaceevo.training.checkpoint import load_checkpoint, load_supernet, save_checkpoint, save_supernet
from spaceevo.training.fit import fit
from spaceevo.training.pace import bf16_is_faster
from spaceevo.training.supernet import SupernetModule, init_qat, make_supernet
from spaceevo.training.teacher import (
    Teacher,
    TeacherModule,
    boundary_moments,
    cnn_teacher,
    doubling_widths,
    efficientnet_b5_teacher,
)

VARIANCE_IMAGES = 512
CALIBRATION_IMAGES = 256


def start(cfg: Config) -> None:
    """Seed everything and set the number of threads."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    L.seed_everything(cfg.seed, verbose=False)


def make_logger(cfg: Config, step: str) -> Any:
    """Where the step's curves go: CSV, TensorBoard or W&B (offline unless ``logger.offline=false``)."""
    from lightning.pytorch import loggers

    folder = Path(cfg.out_dir) / "logs"
    if cfg.logger.name == "csv":
        return loggers.CSVLogger(folder, name=step)
    if cfg.logger.name == "tensorboard":
        return loggers.TensorBoardLogger(folder, name=step)
    folder.mkdir(parents=True, exist_ok=True)
    return loggers.WandbLogger(
        name=f"{cfg.name}-{step}", project=cfg.logger.project, save_dir=folder, offline=cfg.logger.offline
    )


def trainer_arguments(cfg: Config) -> dict[str, Any]:
    t = cfg.trainer
    return dict(
        accelerator=t.accelerator,
        devices=t.devices,
        strategy=t.strategy,
        precision="32-true" if t.precision == "auto" else t.precision,
        enable_progress_bar=t.progress_bar,
    )


def quantizer(cfg: Config) -> Quantizer:
    """How the device holds weights."""
    return Quantizer(weight_bits(cfg.device.weight_bits))


def found_space(cfg: Config, hs: Hyperspace) -> SearchSpace:
    """``space=...``, or the one the space search found."""
    if cfg.space is not None:
        return SearchSpace.parse(cfg.space, hs)
    return SearchSpace.parse(yaml.safe_load(input_path(cfg, "space.yaml").read_text())["space"], hs)


def _new_teacher(cfg: Config, hs: Hyperspace) -> Teacher:
    strides = [stage.stride for stage in hs.stages]
    if cfg.teacher.name == "cnn":
        widths = cfg.teacher.widths or doubling_widths(strides)
        return cnn_teacher(hs.channels, hs.classes, hs.stem.reduction, strides, widths, cfg.teacher.depth)
    return efficientnet_b5_teacher(hs.channels, hs.classes, strides, cfg.teacher.weights)


def load_teacher(cfg: Config, hs: Hyperspace) -> Teacher:
    """The trained teacher of the run folder."""
    net = _new_teacher(cfg, hs)
    net.load_state_dict(load_checkpoint(input_path(cfg, "teacher.ckpt"))["state_dict"])
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def teacher(cfg: Config) -> None:
    """Train the teacher (no epochs: take the named weights as they are) and record its boundary features' moments."""
    start(cfg)
    hs = hyperspace(cfg)
    images = step_images("teacher", cfg)
    net = _new_teacher(cfg, hs).to(memory_format=torch.channels_last)
    data = ImagesModule(images, cfg.data, cfg.teacher.batch, cfg.seed)
    module = TeacherModule(net, cfg.teacher, hs.resolutions, cfg.teacher.epochs * data.steps_per_epoch, cfg.seed)
    fit(module, data, trainer_arguments(cfg), make_logger(cfg, "teacher"), partial(cfg, "teacher"), cfg.teacher.epochs)
    net.eval()
    with torch.no_grad():
        scores = torch.cat([net(x) for x in resized(Normalized(images.val, cfg.data), max(hs.resolutions))])
    accuracy = top1(scores, images.val_labels)
    say(f"teacher: {accuracy:.2f} % validation top-1")
    moments = boundary_moments(net, resized(Normalized(images.train, cfg.data, VARIANCE_IMAGES), cfg.data.image_size, 32))
    bad = next((i for i, (_, v) in enumerate(moments) if not bool(v.isfinite().all())), None)
    if bad is not None:
        raise UserError(
            f"teacher={cfg.teacher.name}: its features after boundary {bad} are not finite; give other teacher.weights"
        )
    means, variances = map(list, zip(*moments, strict=True))
    content = {
        "state_dict": net.state_dict(),
        "mean": means,
        "variance": variances,
        "top1_val": accuracy,
        "split": images.split,
    }
    save_checkpoint(output_path(cfg, "teacher.ckpt"), content)


def bkd(cfg: Config) -> None:
    """Distil every elastic stage: ``bkd.epochs`` in FP32, then ``bkd.lsq_epochs`` with LSQ+."""
    start(cfg)
    hs = hyperspace(cfg)
    guide = load_teacher(cfg, hs)
    known = load_checkpoint(input_path(cfg, "teacher.ckpt"))
    moments = list(zip(known["mean"], known["variance"], strict=True))
    images = step_images("bkd", cfg)
    data = ImagesModule(images, cfg.data, cfg.bkd.batch, cfg.seed, limit=cfg.bkd.images)
    students = new_students(hs, guide, cfg.device.padding)
    for student in students:
        student.standardize(moments[student.spec.stage - 1], moments[student.spec.stage])
    for phase, epochs, quant in (("fp32", cfg.bkd.epochs, None), ("lsq", cfg.bkd.lsq_epochs, quantizer(cfg))):
        folder = partial(cfg, "bkd") / phase
        done = folder / "done.json"
        if done.exists():
            load_students(students, output_path(cfg, "bkd"), phase)
            continue
        if quant is not None:
            batch = normalize(images.train[:CALIBRATION_IMAGES], cfg.data)
            features = guide.features(batch)
            for student in students:
                student.init_quantizers(features[student.spec.stage - 1], quant)
        steps = epochs * data.steps_per_epoch
        module = BKDModule(students, guide, known["variance"], cfg.bkd, hs.lut_resolutions, steps, cfg.seed, quant)
        fit(module, data, trainer_arguments(cfg), make_logger(cfg, f"bkd-{phase}"), folder, epochs)
        for student in students:
            write_safetensors(output_path(cfg, f"bkd/{student.spec.name}.{phase}.safetensors"), student.state_dict())
        shutil.rmtree(folder, ignore_errors=True)  # the phase's checkpoints
        write_json(done, {"epochs": epochs})


def new_students(hs: Hyperspace, guide: Teacher, padding: str) -> list[Student]:
    """Untrained students of every (stage, block type)."""
    channels = guide.channels
    return [
        Student(spec, channels[spec.stage - 1], channels[spec.stage], padding).to(memory_format=torch.channels_last)
        for spec in student_specs(hs)
    ]


def load_students(students: list[Student], folder: Path, phase: str) -> None:
    """The weights of ``phase`` (fp32 or lsq) for every student."""
    for student in students:
        student.load_state_dict(load_file(folder / f"{student.spec.name}.{phase}.safetensors"))


def supernet(cfg: Config) -> None:
    """Pretrain the supernet of the found space in FP32."""
    start(cfg)
    hs = hyperspace(cfg)
    space = found_space(cfg, hs)
    net = make_supernet(space, input_range(cfg.data), cfg.device.padding)
    images = step_images("supernet", cfg)
    data = ImagesModule(images, cfg.data, cfg.supernet.batch, cfg.seed, limit=cfg.supernet.images)
    module = SupernetModule(net, space, cfg.supernet, cfg.supernet.epochs * data.steps_per_epoch, cfg.seed)
    largest, record = subnet_graph(Subnet.largest(space)), partial(cfg, "supernet") / "pace.json"
    module.bf16 = bf16_is_faster(net, largest, data.example(), cfg.supernet, cfg.trainer.precision, record)
    fit(module, data, trainer_arguments(cfg), make_logger(cfg, "supernet"), partial(cfg, "supernet"), cfg.supernet.epochs)
    save_supernet(output_path(cfg, "supernet.ckpt"), net, space, split=images.split, top1_val=_extremes(cfg, module, images))


def qat(cfg: Config) -> None:
    """Train the supernet on with every path fake-quantized."""
    start(cfg)
    hs = hyperspace(cfg)
    net, space = load_supernet(input_path(cfg, "supernet.ckpt"), hs)
    images = step_images("qat", cfg)
    data = ImagesModule(images, cfg.data, cfg.qat.batch, cfg.seed + 1, limit=cfg.qat.images)
    quant = quantizer(cfg)
    init_qat(net, space, normalize(images.train[:CALIBRATION_IMAGES], cfg.data), quant, cfg.seed)
    module = SupernetModule(net, space, cfg.qat, cfg.qat.epochs * data.steps_per_epoch, cfg.seed, quant)
    fit(module, data, trainer_arguments(cfg), make_logger(cfg, "qat"), partial(cfg, "qat"), cfg.qat.epochs)
    accuracies = _extremes(cfg, module, images)
    moved = module.scales_moved()
    say(f"qat: learned scales moved by {moved.median():.1f} % (median), {moved.max():.1f} % at most")
    more = dict(weight_bits=quant.weight_bits, split=images.split, top1_val=accuracies)
    save_supernet(output_path(cfg, "qat.ckpt"), net, space, **more)


def _extremes(cfg: Config, module: SupernetModule, images: Any) -> list[float]:
    """Validation top-1 of the largest and the smallest subnet."""
    net, space, quant = module.net.eval(), module.space, module.quantizer
    train = normalize(images.train[:CALIBRATION_IMAGES], cfg.data)
    accuracies = []
    for net_of in (Subnet.largest, Subnet.smallest):
        graph = subnet_graph(net_of(space))
        validation = Normalized(images.val, cfg.data), images.val_labels
        accuracies.append(recalibrated_top1(net, graph, quant, train, *validation))
    name = "supernet" if quant is None else "qat"
    say(f"{name}: largest {accuracies[0]:.2f} %, smallest {accuracies[1]:.2f} % validation top-1")
    return accuracies
