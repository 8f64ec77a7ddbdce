"""How steps that train begin: seed, threads, logger, trainer, quantizer, and the space they train in."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from typing import Any

import lightning as L
import torch
import yaml

from spaceevo.latency.host import weight_bits
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Hyperspace, SearchSpace
from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import InASpace, OnADevice, Seeded, Trained
from spaceevo.training.config import TrainerConfig

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
CALIBRATION_IMAGES = 256  # of training images, that quantizers are fitted to


def start(cfg: Seeded, threads: int | None = None) -> None:
    """Seed everything and set the number of threads, which is the config's unless given."""
    keep_memory()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if threads or cfg.threads:
        torch.set_num_threads(threads or cfg.threads)
    L.seed_everything(cfg.seed, verbose=False)


def keep_memory() -> None:
    """Let glibc, where it is the C library, keep what is freed: memory that a training step gives back, the next has to ask for
    anew, page by page, which costs a small network an eighth of its time."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


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
    """How the device holds weights."""
    return Quantizer(weight_bits(cfg.device.weight_bits))


def found_space(folder: Folder, cfg: InASpace, hs: Hyperspace) -> SearchSpace:
    """``space=...``, or the one the space search found."""
    if cfg.space is not None:
        return SearchSpace.parse(cfg.space, hs)
    return SearchSpace.parse(yaml.safe_load(folder.input("space.yaml").read_text())["space"], hs)
