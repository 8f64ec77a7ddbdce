"""Teachers: networks with named boundary features, one before the first elastic stage and one after each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaceevo.errors import UserError
from spaceevo.nn.elastic import resize
from spaceevo.training.config import check_widths
from spaceevo.training.fit import average_gradients, cosine, set_lr, step_rng

#: The name of torchvision's weights, for ``teacher.weights``.
PRETRAINED = "IMAGENET1K_V1"


class Teacher(nn.Module):
    """A chain of boundaries: ``stages[0]`` is the stem, ``stages[i]`` what elastic stage i mimics."""

    def __init__(self, stages: Sequence[nn.Module], head: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.channels = tuple(channels)

    def features(self, x: Tensor) -> list[Tensor]:
        """Boundary features ``[B, channels[i], H_i, W_i]``: the input of stage 1, then the output of every stage."""
        boundaries = []
        for stage in self.stages:
            x = stage(x)
            boundaries.append(x)
        return boundaries

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def _conv(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def cnn_teacher(
    channels: int, classes: int, stem_stride: int, strides: Sequence[int], widths: Sequence[int], depth: int
) -> Teacher:
    """A small residual CNN with the strides of the hyperspace: a stem, then ``depth`` 3x3 convolutions a stage.

    Raises:
        UserError: ``widths`` is not one for the stem and one a stage.
    """
    check_widths(list(widths), len(strides))
    stages: list[nn.Module] = [_conv(channels, widths[0], stem_stride)]
    for cin, cout, stride in zip(widths, widths[1:], strides, strict=False):
        stages.append(nn.Sequential(_conv(cin, cout, stride), *(_Residual(cout) for _ in range(depth - 1))))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))
    return Teacher(stages, head, widths)


def doubling_widths(strides: Sequence[int], first: int = 32) -> list[int]:
    """The stem's width and one a stage, doubled by every stride of 2."""
    widths = [first]
    for stride in strides:
        widths.append(widths[-1] * stride)
    return widths


def efficientnet_b5_teacher(channels: int, classes: int, strides: Sequence[int], weights: str | None) -> Teacher:
    """torchvision's EfficientNet-B5, cut where the paper's six elastic stages begin and end.

    Raises:
        UserError: other strides than those six stages have, or an unreadable weights file.
    """
    from torchvision.models import efficientnet_b5

    if tuple(strides) != (2, 2, 2, 1, 2, 1):
        raise UserError(f"teacher=efficientnet_b5: mimics stages of strides 2,2,2,1,2,1; the hyperspace has {list(strides)}")
    if channels != 3:
        raise UserError(f"teacher=efficientnet_b5: reads images of 3 channels; data.channels={channels}")
    net = efficientnet_b5(weights=None, num_classes=classes)
    if weights == PRETRAINED:
        net.load_state_dict(_fetch_pretrained(classes))
    elif weights is not None:
        try:
            net.load_state_dict(_read_weights(weights))
        except (RuntimeError, TypeError) as error:
            why = str(error).splitlines()[-1].strip()
            raise UserError(f"teacher.weights={weights}: not an efficientnet_b5 of {classes} classes ({why})") from None
    f = net.features
    stages = [nn.Sequential(f[0], f[1]), *(f[i] for i in range(2, 8))]
    head = nn.Sequential(f[8], net.avgpool, nn.Flatten(), net.classifier)
    return Teacher(stages, head, (24, 40, 64, 128, 176, 304, 512))


def _fetch_pretrained(classes: int) -> dict[str, Tensor]:
    """torchvision's ImageNet weights, from its cache or the internet."""
    from torchvision.models import EfficientNet_B5_Weights

    if classes != 1000:
        raise UserError(f"teacher.weights={PRETRAINED}: classifies ImageNet's 1000 classes; data.classes={classes}")
    try:
        return cast(dict[str, Tensor], EfficientNet_B5_Weights[PRETRAINED].get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"teacher.weights={PRETRAINED}: torchvision could not fetch it ({str(error).splitlines()[0]}); "
            "give the path of a state_dict of torchvision's efficientnet_b5"
        ) from None


def _read_weights(path: str) -> dict[str, Tensor]:
    try:
        return cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise UserError(f"teacher.weights={path}: {error.strerror}; a state_dict of torchvision's efficientnet_b5") from None
    except Exception as error:
        raise UserError(f"teacher.weights={path}: not a state_dict of tensors ({type(error).__name__})") from None


@torch.no_grad()
def boundary_moments(teacher: Teacher, batches: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance a channel of every boundary feature over ``batches`` ``[B, C, H, W]``; the variance is the signal of
    the NSR loss."""
    total: list[Tensor] = []
    for x in batches:
        features = [f.double() for f in teacher.features(x)]
        moments = [
            torch.stack((torch.ones_like(f).sum((0, 2, 3)), f.sum((0, 2, 3)), f.square().sum((0, 2, 3)))) for f in features
        ]
        total = [a + b for a, b in zip(total, moments, strict=True)] if total else moments
    return [((s / n).float(), ((squares - s**2 / n) / (n - 1)).clamp(min=0).float()) for n, s, squares in total]


class TeacherModule(L.LightningModule):
    """Cross entropy with SGD, at a resolution drawn anew every batch (the LUT asks the teacher at several)."""

    def __init__(self, teacher: Teacher, recipe: Any, resolutions: Sequence[int], steps: int, seed: int) -> None:
        super().__init__()
        self.teacher, self.recipe, self.steps, self.seed = teacher, recipe, steps, seed
        self.resolutions = tuple(resolutions)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        r = self.recipe
        how = dict(weight_decay=r.weight_decay, nesterov=True, foreach=True)
        optimizer = torch.optim.SGD(self.teacher.parameters(), r.lr, 0.9, **how)
        optimizer.param_groups[0]["base_lr"] = r.lr
        return optimizer

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        average_gradients(self.teacher)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        step = self.global_step
        rng = step_rng(self.seed, "teacher", step)
        set_lr(cast(torch.optim.Optimizer, self.optimizers()), cosine(step, self.steps, self.steps // 10))
        scores = self.teacher(resize(x, int(rng.choice(self.resolutions))))
        loss = F.cross_entropy(scores, y, label_smoothing=self.recipe.label_smoothing)
        self.log("loss", loss, prog_bar=True)
        return loss
