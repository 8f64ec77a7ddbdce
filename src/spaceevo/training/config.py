"""The recipes of the trainings, and where they run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spaceevo.errors import UserError, bad_value
from spaceevo.settings import CHANNELS, COUNT, EPOCHS, IMAGES, PIXELS, RATE, SECONDS, setting

SCHEDULES = ("linear", "cosine")
EPOCH = "an epoch's training images, drawn anew for each, where there are fewer each more than once; null: all"


@dataclass
class TrainerConfig:
    """Where to train: arguments of ``lightning.Trainer``."""

    accelerator: str = setting("what computes", choices=("auto", "cpu", "gpu"))
    devices: int | str = setting("how many of them, their numbers as text ('0,1'), or auto for all", most=COUNT)
    strategy: str = setting("how several work together", choices=("auto", "ddp"))
    precision: str = setting(
        "of the arithmetic; auto: FP32, but where supernet and finish do not quantize the faster of it and bf16 here",
        choices=("32-true", "bf16-mixed", "auto"),
    )
    progress_bar: bool = setting("show how far it is")

    def check(self) -> None:
        """Raises:
        UserError: devices are neither a number nor auto.
        """
        if isinstance(self.devices, str) and not re.fullmatch(r"auto|\?\?\?|\d+(,\d+)*", self.devices):
            raise bad_value("trainer.devices", self.devices, "a whole number more than 0, numbers of devices as text, or auto")


@dataclass
class LoggerConfig:
    """Where training curves go."""

    name: str = setting("what keeps them", choices=("csv", "tensorboard", "wandb"))
    project: str = setting("of Weights & Biases")
    offline: bool = setting("Weights & Biases keeps them here, to be sent later")


@dataclass
class TeacherConfig:
    """The network that block-wise distillation learns from."""

    name: str = setting("which network", choices=("cnn", "efficientnet_b5"))
    widths: list[int] | None = setting(
        "channels of the cnn's stem and of each of its stages; null: 32, doubled by every stride of 2", most=CHANNELS
    )
    depth: int = setting(
        "3x3 convolutions a stage of the cnn; of a shallower one the table cannot learn what depth is worth", least=0, most=1000
    )
    epochs: int = setting("passes over the training images", least=0, most=EPOCHS)
    images: int | None = setting(EPOCH, most=IMAGES)
    batch: int = setting("images a step", most=COUNT)
    lr: float = setting("the highest learning rate", most=RATE)
    weight_decay: float = setting("of the weights, but for biases and gains", least=0, most=RATE)
    label_smoothing: float = setting("share of a label that goes to all classes alike", least=0, below=1)
    weights: str | None = setting("begins with them: a file of a state dict, or a name of torchvision's; null: random")


@dataclass
class BkdConfig:
    """Block-wise knowledge distillation (paper section 4.5)."""

    epochs: int = setting("passes in FP32", least=0, most=EPOCHS)
    lsq_epochs: int = setting("passes after them, quantization-aware", least=0, most=EPOCHS)
    images: int | None = setting(EPOCH, most=IMAGES)
    batch: int = setting("images a step", most=COUNT)
    lr: float = setting("learning rate in FP32", most=RATE)
    lsq_lr: float = setting("learning rate of the quantization-aware passes", most=RATE)
    random_paths: int = setting("random sub-stages a step, beside the largest and the smallest", least=0, most=1000)
    targets: str = setting(
        "the teacher's features that are learned: of the full resolution, or of the student's own", choices=("full", "own")
    )


@dataclass
class StepsConfig:
    """How a step learns."""

    batch: int = setting("images a step", most=COUNT)
    lr: float = setting("the highest learning rate of SGD", most=RATE)
    momentum: float = setting("of SGD and of Muon", least=0, below=1)
    weight_decay: float = setting("of the weights that SGD learns", least=0, most=RATE)
    muon_lr: float | None = setting(
        "the highest learning rate of the convolutions, by Muon; null: by SGD, as all else", most=RATE
    )
    muon_decay: float = setting("weight decay of the convolutions by Muon", least=0, most=RATE)
    label_smoothing: float = setting("share of a label that goes to all classes alike", least=0, below=1)
    warmup: float = setting("share of the steps over which the learning rate rises, before it falls", least=0, below=1)


@dataclass
class SupernetConfig(StepsConfig):
    """Sandwich-rule training of the supernet, in FP32 or quantization-aware."""

    epochs: int = setting("passes over the training images", least=0, most=EPOCHS)
    images: int | None = setting(EPOCH, most=IMAGES)
    random_paths: int = setting("random subnets a step, beside the largest and the smallest", least=0, most=1000)
    smallest: bool = setting("the smallest subnet is trained in every step, as the sandwich rule has it; else a random one is")
    clip_norm: float = setting("most that the norm of a step's gradient may be", most=COUNT)
    largest_first: float = setting("share of the steps in which the largest subnet trains alone, the first", least=0, below=1)
    dropout: float = setting("share of the classifier's features that the largest subnet does without", least=0, below=1)
    schedule: str = setting("by which the learning rate falls", choices=SCHEDULES)


@dataclass
class AloneConfig(StepsConfig):
    """How one network is trained alone."""

    quantized_from: float = setting("share of the steps from which on it is quantization-aware", least=0, below=1)
    shift: int = setting(
        "pixels that its training images are moved at random, at most; data.shift if more", least=0, most=PIXELS
    )


@dataclass
class TimedConfig(AloneConfig):
    """And how long: ``seconds`` or ``epochs``, one of them."""

    seconds: float | None = setting("how long each is trained, s; null: epochs says it", least=0, most=SECONDS)
    epochs: float | None = setting("passes over the training images; null: seconds says it", least=0, most=EPOCHS)

    @property
    def at_all(self) -> bool:
        """Whether anything is trained."""
        return bool(self.seconds or self.epochs)


def check_length(section: str, recipe: TimedConfig) -> None:
    """Raises:
    UserError: ``section`` gives its ``recipe`` seconds and epochs, or neither of them.
    """
    if (recipe.seconds is None) == (recipe.epochs is None):
        both = "both are" if recipe.epochs is not None else "neither is"
        raise UserError(
            f"{section}.seconds={recipe.seconds} {section}.epochs={recipe.epochs}: {both} given, must be one of them"
        )


def check_widths(widths: list[int] | None, stages: int) -> None:
    """Raises:
    UserError: a teacher's ``widths`` are not one for the stem and one a stage.
    """
    if widths is not None and len(widths) != stages + 1:
        raise UserError(f"teacher.widths={list(widths)}: must be {stages + 1} widths, the stem's and one a stage")
