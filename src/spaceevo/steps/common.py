"""How steps train: seed, threads, logger, trainer, what is made of a training that diverges, quantizer and space."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from torch import Tensor

from spaceevo.data import Images, ImagesModule, normalize
from spaceevo.data.config import DataConfig
from spaceevo.errors import UserError
from spaceevo.latency.host import weight_bits
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Hyperspace, SearchSpace
from spaceevo.steps.folder import Folder, say, usable_threads
from spaceevo.steps.needs import InASpace, OnADevice, Seeded, Trained
from spaceevo.training.config import TrainerConfig
from spaceevo.training.fit import fit
from spaceevo.training.watch import SLOWER, Bar, Diverged

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
CALIBRATION_IMAGES, CALIBRATION_PIXELS = 256, 2_500_000  # of training images, that quantizers are fitted to, at most


def start(cfg: Seeded, threads: int | None = None) -> None:
    """Seed everything and set the number of threads, which is the config's unless given."""
    keep_memory()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if threads or cfg.threads:
        torch.set_num_threads(threads or usable_threads(cfg.threads))
    L.seed_everything(cfg.seed, verbose=False)


def keep_memory() -> None:
    """Let glibc, where it is the C library, keep what is freed: memory that a training step gives back, the next has to ask for
    anew, page by page, which costs a small network an eighth of its time."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def calibrating(images: Images, data: DataConfig) -> Tensor:
    """The first training images, normalized ``[N, C, H, W]``, that quantizers and BatchNorm statistics are fitted to: of large
    ones as many as memory holds with all feature maps."""
    return normalize(images.train[: max(1, min(CALIBRATION_IMAGES, CALIBRATION_PIXELS // data.image_size**2))], data)


def make_logger(folder: Folder, cfg: Trained, curves: str) -> Any:
    """Where ``curves`` go: CSV, TensorBoard or W&B (offline unless ``logger.offline=false``)."""
    from lightning.pytorch import loggers

    logs = folder.out / "logs"
    if cfg.logger.name == "csv":
        return loggers.CSVLogger(logs, name=curves)
    if cfg.logger.name == "tensorboard":
        return loggers.TensorBoardLogger(logs, name=curves)
    logs.mkdir(parents=True, exist_ok=True)
    return loggers.WandbLogger(
        name=f"{cfg.name}-{curves}", project=cfg.logger.project, save_dir=logs, offline=cfg.logger.offline
    )


def train(
    folder: Folder,
    cfg: Trained,
    name: str,
    rates: str,
    module: L.LightningModule,
    data: ImagesModule,
    part: Path,
    epochs: int,
    steps: int = -1,
    bar: Bar | None = None,
) -> None:
    """``fit`` with the config's trainer and logger. ``name``: of the training; ``rates``: the settings that it learns by.

    Raises:
        UserError: it diverges, at lower rates too.
    """
    for line in vain(module, data, epochs):
        say(f"{name}: {line}")
    logger = make_logger(folder, cfg, name)
    try:
        fit(module, data, trainer_arguments(cfg.trainer), logger, part, epochs, steps, bar, lambda line: say(f"{name}: {line}"))
    except Diverged as error:
        raise UserError(
            f"{rates}: likely too high: {name} {error}; it had done so before, at {1 / SLOWER:g} times that"
        ) from None


def vain(module: L.LightningModule, data: ImagesModule, epochs: int) -> list[str]:
    """What of a training's length is not as it was asked for, or does nothing; a line each."""
    steps, warmup, sampler = getattr(module, "steps", 0), getattr(module.recipe, "warmup", 0.0), data.sampler
    lines = []
    if steps == 0 or epochs == 0:
        lines.append("0 steps: nothing is trained, the weights stay as they are")
    elif steps * (1 - warmup) < 1:
        lines.append(f"warmup={warmup:g}: none of {steps} steps comes after it, so the rate never falls")
    if sampler.batch < sampler.asked:
        lines.append(f"batch={sampler.asked}: an epoch has {sampler.drawn} images, which are one batch")
    return lines


def rates_of(section: str, recipe: Any, *keys: str) -> str:
    """The learning rates of a section of the config, as they are typed; ``keys``: other ones than those of ``StepsConfig``."""
    values = {key: getattr(recipe, key) for key in keys or ("lr", "muon_lr")}
    return " ".join(f"{section}.{key}={value:g}" for key, value in values.items() if value is not None)


def check_learned(name: str, rates: str, top1: float, classes: int, images: int, before: float | None = None) -> None:
    """``top1``: in percent of ``images``; ``before``: of a network that was trained before, None: from nothing.

    Raises:
        UserError: it is that of chance, and was twice that of chance ``before``.
    """
    chance = 1 / classes
    most = 100 * (chance + 3 * (chance * (1 - chance) / images) ** 0.5)
    if top1 > most or (before is not None and before < 2 * most):
        return
    was = "" if before is None else f", after {before:.2f} % before it"
    raise UserError(f"{rates}: likely too high: {name} ends at {top1:.2f} % validation top-1, chance of {classes} classes{was}")


def trainer_arguments(t: TrainerConfig) -> dict[str, Any]:
    """Arguments of ``lightning.Trainer``."""
    return dict(
        accelerator=t.accelerator,
        devices=t.devices,
        strategy=t.strategy,
        precision="32-true" if t.precision == "auto" else t.precision,
        enable_progress_bar=t.progress_bar,
    )


def quantizer(cfg: OnADevice) -> Quantizer:
    """How the device holds tensors."""
    return Quantizer(weight_bits(cfg.device.weight_bits), cfg.device.activations)


def found_space(folder: Folder, cfg: InASpace, hs: Hyperspace) -> SearchSpace:
    """``space=...``, or the one the space search found."""
    if cfg.space is not None:
        return SearchSpace.parse(cfg.space, hs)
    return SearchSpace.parse(yaml.safe_load(folder.input("space.yaml").read_text())["space"], hs)
