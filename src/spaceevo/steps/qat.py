"""``python -m spaceevo.train stage=qat``: the supernet trained on, quantization-aware (LSQ+)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, SCHEME, SPACE, Step
from spaceevo.steps.supernet import extremes
from spaceevo.training.config import SupernetConfig

if TYPE_CHECKING:
    from torch import Tensor

    from spaceevo.data import Images
    from spaceevo.training.supernet import SupernetModule

AGREEING = 512  # validation images over which a released supernet's labels are compared


class Needs(Trained, InASpace, OnADevice, Protocol):
    """What it reads of the config. ``released``: what the supernet began as."""

    qat: SupernetConfig
    released: str | None


def run(folder: Folder, cfg: Needs) -> None:
    """Train the supernet on with every path fake-quantized."""
    from spaceevo.data import ImagesModule
    from spaceevo.steps.common import calibrating, check_learned, quantizer, rates_of, start, train
    from spaceevo.training.checkpoint import load_checkpoint, load_supernet, save_supernet, scheme
    from spaceevo.training.imported import hold_learned
    from spaceevo.training.supernet import SupernetModule, init_qat
    from spaceevo.training.watch import Bar

    start(cfg)
    net, space = load_supernet(folder.input("supernet.ckpt"), hyperspace(cfg))
    images = folder.images(cfg.data, False)
    data = ImagesModule(images, cfg.data, cfg.qat.batch, cfg.seed + 1, limit=cfg.qat.images)
    quant = quantizer(cfg)
    before, calibration = load_checkpoint(folder.input("supernet.ckpt")), calibrating(images, cfg.data)
    init_qat(net, space, calibration, quant, cfg.seed)
    hold_learned(net, space, before.get("learned", {}), quant)
    module = SupernetModule(net, space, cfg.qat, cfg.qat.epochs * data.steps_per_epoch, cfg.seed, quant)
    costs = {} if cfg.released is None else _costs(cfg, Path(cfg.released), module, calibration, images, "imported")
    bar, rates = Bar.of(cfg.data.classes, cfg.qat.batch), rates_of("qat", cfg.qat)
    train(folder, cfg, "qat", rates, module, data, folder.partial, cfg.qat.epochs, bar=bar)
    accuracies = extremes(cfg.data, module, images)
    check_learned("qat", rates, accuracies[0], cfg.data.classes, len(images.val), before["top1_val"][0])
    moved = module.scales_moved()
    say(f"qat: learned scales moved by {moved.median():.1f} % (median), {moved.max():.1f} % at most")
    if cfg.released is not None and module.steps:
        costs |= _costs(cfg, Path(cfg.released), module, calibration, images, f"after {module.steps} steps")
    more = dict(split=images.split, top1_val=accuracies, import_costs=costs)
    save_supernet(folder.output("qat.ckpt"), net, space, **scheme(quant), **more)


def _costs(
    cfg: Needs, path: Path, module: SupernetModule, calibration: Tensor, images: Images, when: str
) -> dict[str, list[tuple[str, float, float]]]:
    """For how many percent of the first validation images the largest and the smallest subnet give the label that the released
    supernet gives in its own arithmetic, and their top-1: ``imported`` after each change that the import makes, or ``when``
    it was trained on. Nothing of a supernet with a new head."""
    from dataclasses import astuple

    from spaceevo.data import Normalized, input_range
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import quantizer
    from spaceevo.training.imported import begin, costs

    found, same = begin(path, module.space, input_range(cfg.data), cfg.device.padding)
    few, all_of = Normalized(images.val, cfg.data, AGREEING), {}
    for net_of in (Subnet.largest, Subnet.smallest) if same else ():
        graph, labels = subnet_graph(net_of(module.space)), images.val_labels[: len(few)]
        told = costs(found, module.net.eval(), graph, quantizer(cfg), calibration, few, labels, when != "imported")
        say(f"qat: {net_of.__name__}, {when}: the released one's label for {len(few)} images: {'; '.join(map(str, told))}")
        all_of[f"{net_of.__name__}, {when}"] = [astuple(cost) for cost in told]
    return all_of


STEP = Step(
    "qat",
    "train stage=qat",
    "trains the supernet on, quantization-aware",
    (*DATA, *SPACE, "space", *SCHEME, "qat", "released", "trainer.precision"),
    ("space.yaml", "supernet.ckpt"),
    ("qat.ckpt",),
    run,
    free=("latency",),
    version=2,
    examples=("stage=qat trainer=gpu logger=tensorboard",),
)
