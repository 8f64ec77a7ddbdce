"""The recipes of the trainings, and where they run."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.errors import UserError
from spaceevo.settings import setting

SCHEDULES = ("linear", "cosine")


@dataclass
class TrainerConfig:
    """Arguments of ``lightning.Trainer``; ``precision: auto``: FP32, but where supernet and finish do not quantize the faster
    of it and bf16 on this machine."""

    accelerator: str = setting(choices=("auto", "cpu", "gpu"))
    devices: int | str = MISSING
    strategy: str = setting(choices=("auto", "ddp"))
    precision: str = setting(choices=("32-true", "bf16-mixed", "auto"))
    progress_bar: bool = MISSING


@dataclass
class LoggerConfig:
    """Where training curves go."""

    name: str = setting(choices=("csv", "tensorboard", "wandb"))
    project: str = MISSING
    offline: bool = MISSING


@dataclass
class TeacherConfig:
    """The network that block-wise distillation learns from."""

    name: str = setting(choices=("cnn", "efficientnet_b5"))
    widths: list[int] | None = MISSING
    depth: int = setting(least=0)
    epochs: int = setting(least=0)
    batch: int = MISSING
    lr: float = MISSING
    weight_decay: float = setting(least=0)
    label_smoothing: float = setting(least=0, below=1)
    weights: str | None = MISSING


@dataclass
class BkdConfig:
    """Block-wise knowledge distillation (paper section 4.5). ``images``: an epoch's, drawn anew for each, null for all;
    ``targets``: the teacher's features of the ``full`` resolution, or of the student's ``own``."""

    epochs: int = setting(least=0)
    lsq_epochs: int = setting(least=0)
    images: int | None = MISSING
    batch: int = MISSING
    lr: float = MISSING
    lsq_lr: float = MISSING
    random_paths: int = setting(least=0)
    targets: str = setting(choices=("full", "own"))


@dataclass
class StepsConfig:
    """How a step learns; ``warmup``: the share of the steps over which the learning rate rises, before it falls;
    ``muon_lr`` and ``muon_decay``: of the convolutions by Muon (``training/optimizer.py``), null: by SGD, as all else."""

    batch: int = MISSING
    lr: float = MISSING
    momentum: float = setting(least=0, below=1)
    weight_decay: float = setting(least=0)
    muon_lr: float | None = MISSING
    muon_decay: float = setting(least=0)
    label_smoothing: float = setting(least=0, below=1)
    warmup: float = setting(least=0, below=1)


@dataclass
class SupernetConfig(StepsConfig):
    """Sandwich-rule training of the supernet, in FP32 or quantization-aware; ``images``: an epoch's, drawn anew for each,
    null for all; ``schedule``: by which the learning rate falls."""

    epochs: int = setting(least=0)
    images: int | None = MISSING
    random_paths: int = setting(least=0)
    clip_norm: float = MISSING
    largest_first: float = setting(least=0, below=1)
    dropout: float = setting(least=0, below=1)
    schedule: str = setting(choices=SCHEDULES)


@dataclass
class AloneConfig(StepsConfig):
    """How one network is trained alone, quantization-aware from the share ``quantized_from`` of its steps on."""

    quantized_from: float = setting(least=0, below=1)


@dataclass
class TimedConfig(AloneConfig):
    """And how long: ``seconds`` or ``epochs``, one of them."""

    seconds: float | None = setting(least=0)
    epochs: float | None = setting(least=0)

    @property
    def at_all(self) -> bool:
        """Whether anything is trained."""
        return bool(self.seconds or self.epochs)


def check_widths(widths: list[int] | None, stages: int) -> None:
    """Raises:
    UserError: a teacher's ``widths`` are not one for the stem and one a stage.
    """
    if widths is not None and len(widths) != stages + 1:
        raise UserError(f"teacher.widths={list(widths)}: must be {stages + 1} widths, the stem's and one a stage")
