"""``python -m spaceevo.train stage=qat``: the supernet trained on, quantization-aware (LSQ+)."""

from __future__ import annotations

from typing import Protocol

from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, SCHEME, SPACE, Step
from spaceevo.steps.supernet import extremes
from spaceevo.training.config import SupernetConfig


class Needs(Trained, InASpace, OnADevice, Protocol):
    """What it reads of the config."""

    qat: SupernetConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Train the supernet on with every path fake-quantized."""
    from spaceevo.data import ImagesModule, normalize
    from spaceevo.steps.common import CALIBRATION_IMAGES, check_learned, quantizer, rates_of, start, train
    from spaceevo.training.checkpoint import load_checkpoint, load_supernet, save_supernet
    from spaceevo.training.supernet import SupernetModule, init_qat
    from spaceevo.training.watch import Bar

    start(cfg)
    net, space = load_supernet(folder.input("supernet.ckpt"), hyperspace(cfg))
    images = folder.images(cfg.data, False)
    data = ImagesModule(images, cfg.data, cfg.qat.batch, cfg.seed + 1, limit=cfg.qat.images)
    quant = quantizer(cfg)
    init_qat(net, space, normalize(images.train[:CALIBRATION_IMAGES], cfg.data), quant, cfg.seed)
    module = SupernetModule(net, space, cfg.qat, cfg.qat.epochs * data.steps_per_epoch, cfg.seed, quant)
    bar, rates = Bar.of(cfg.data.classes, cfg.qat.batch), rates_of("qat", cfg.qat)
    train(folder, cfg, "qat", rates, module, data, folder.partial, cfg.qat.epochs, bar=bar)
    accuracies = extremes(cfg.data, module, images)
    before = load_checkpoint(folder.input("supernet.ckpt"))["top1_val"]
    check_learned("qat", rates, accuracies[0], cfg.data.classes, len(images.val), before[0])
    moved = module.scales_moved()
    say(f"qat: learned scales moved by {moved.median():.1f} % (median), {moved.max():.1f} % at most")
    more = dict(weight_bits=quant.weight_bits, split=images.split, top1_val=accuracies)
    save_supernet(folder.output("qat.ckpt"), net, space, **more)


STEP = Step(
    "qat",
    "train stage=qat",
    "trains the supernet on, quantization-aware",
    (*DATA, *SPACE, "space", *SCHEME, "qat", "trainer.precision"),
    ("space.yaml", "supernet.ckpt"),
    ("qat.ckpt",),
    run,
    free=("latency",),
    version=2,
    examples=("stage=qat trainer=gpu logger=tensorboard",),
)
