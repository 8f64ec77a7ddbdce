"""``python -m spaceevo.train stage=teacher``: the network that block-wise distillation learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from spaceevo.errors import UserError
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import OfASpace, Trained, hyperspace
from spaceevo.steps.step import DATA, Step
from spaceevo.training.config import TeacherConfig

if TYPE_CHECKING:
    from spaceevo.space import Hyperspace
    from spaceevo.training.teacher import Teacher

VARIANCE_IMAGES = 512
WORSE = 3.0  # points of validation top-1


class Taught(OfASpace, Protocol):
    """What reads the teacher."""

    teacher: TeacherConfig


class Needs(Trained, Taught, Protocol):
    """What it reads of the config."""


def run(folder: Folder, cfg: Needs) -> None:
    """Train the teacher (no epochs: take the named weights as they are) and record its boundary features' moments."""
    import torch

    from spaceevo.data import ImagesModule, Normalized
    from spaceevo.nn.evaluate import resized, top1
    from spaceevo.steps.common import check_learned, rates_of, start, train
    from spaceevo.training.checkpoint import save_checkpoint
    from spaceevo.training.teacher import TeacherModule, boundary_moments
    from spaceevo.training.watch import Bar

    start(cfg)
    hs = hyperspace(cfg)
    images = folder.images(cfg.data, False)
    _tell_shallow(cfg, hs)
    net = _new(cfg, hs).to(memory_format=torch.channels_last)
    data = ImagesModule(images, cfg.data, cfg.teacher.batch, cfg.seed, limit=cfg.teacher.images)
    module = TeacherModule(net, cfg.teacher, hs.resolutions, cfg.teacher.epochs * data.steps_per_epoch, cfg.seed)
    bar, rates = Bar.of(cfg.data.classes, cfg.teacher.batch), rates_of("teacher", cfg.teacher, "lr")
    train(folder, cfg, "teacher", rates, module, data, folder.partial, cfg.teacher.epochs, bar=bar)
    net.eval()
    with torch.no_grad():
        scores = torch.cat([net(x) for x in resized(Normalized(images.val, cfg.data), max(hs.resolutions))])
    accuracy = top1(scores, images.val_labels)
    say(f"teacher: {accuracy:.2f} % validation top-1")
    if module.steps >= bar.steps:
        check_learned("teacher", rates, accuracy, cfg.data.classes, len(images.val))
    moments = boundary_moments(net, resized(Normalized(images.train, cfg.data, VARIANCE_IMAGES), cfg.data.image_size, 32))
    bad = next((i for i, (_, v) in enumerate(moments) if not bool(v.isfinite().all())), None)
    if bad is not None:
        raise UserError(
            f"teacher={cfg.teacher.name}: its features after boundary {bad} are not finite; give other teacher.weights"
        )
    means, variances = map(list, zip(*moments, strict=True))
    content = dict(state_dict=net.state_dict(), mean=means, variance=variances, top1_val=accuracy, split=images.split)
    save_checkpoint(folder.output("teacher.ckpt"), content)


def load_teacher(folder: Folder, cfg: Taught) -> Teacher:
    """The trained teacher of the run folder."""
    import torch

    from spaceevo.training.checkpoint import load_checkpoint

    net = _new(cfg, hyperspace(cfg))
    net.load_state_dict(load_checkpoint(folder.input("teacher.ckpt"))["state_dict"])
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def tell_worse(folder: Folder, top1: float) -> None:
    """Says so where the run's teacher is worse, by more than ``WORSE`` points, than a pupil of ``top1`` percent."""
    from spaceevo.training.checkpoint import load_checkpoint

    path = folder.input("teacher.ckpt")
    theirs = load_checkpoint(path).get("top1_val", top1) if path.exists() else top1
    if theirs < top1 - WORSE:
        say(
            f"{folder.step}: the teacher is worse than its pupil ({theirs:.2f} %, {top1:.2f} % validation top-1): the table "
            "that it made, and the space found by that, are not to be trusted; train it longer (teacher.epochs), or give "
            "teacher.weights"
        )


def _tell_shallow(cfg: Taught, hs: Hyperspace) -> None:
    """A teacher's stage of one convolution is mimicked by one block: what a second is worth, the table would not tell."""
    deepest = max(max(stage.depths) for stage in hs.stages)
    if cfg.teacher.name == "cnn" and cfg.teacher.depth < deepest:
        say(
            f"teacher: teacher.depth={cfg.teacher.depth}, and stages have up to {deepest} blocks: the table will not tell "
            f"what more of them are worth; give teacher.depth={deepest + 1}"
        )


def _new(cfg: Taught, hs: Hyperspace) -> Teacher:
    from spaceevo.training.teacher import cnn_teacher, doubling_widths, efficientnet_b5_teacher

    strides = [stage.stride for stage in hs.stages]
    if cfg.teacher.name == "cnn":
        widths = cfg.teacher.widths or doubling_widths(strides)
        return cnn_teacher(hs.channels, hs.classes, hs.stem.reduction, strides, widths, cfg.teacher.depth)
    return efficientnet_b5_teacher(hs.channels, hs.classes, strides, cfg.teacher.weights)


STEP = Step(
    "teacher",
    "train stage=teacher",
    "trains the teacher",
    (*DATA, "hyperspace.resolutions", "hyperspace.stem", "hyperspace.stages", "teacher", "trainer.precision"),
    (),
    ("teacher.ckpt",),
    run,
    version=2,
    examples=("stage=teacher teacher.epochs=4",),
)
