"""``python -m spaceevo.train stage=supernet``: the found space's supernet in FP32, by the sandwich rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.data.config import DataConfig
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, SPACE, Step
from spaceevo.training.config import SupernetConfig

if TYPE_CHECKING:
    from spaceevo.data import Images
    from spaceevo.nn.elastic import Elastic
    from spaceevo.space import SearchSpace
    from spaceevo.training.supernet import SupernetModule

HEAD_IMAGES, HEAD_PENALTY = 2000, 1e-3  # that a new head of a released supernet is fitted to, and on its squared weights


class Needs(Trained, InASpace, OnADevice, Protocol):
    """What it reads of the config. ``released``: a supernet of the paper's authors to begin as."""

    supernet: SupernetConfig
    released: str | None


def run(folder: Folder, cfg: Needs) -> None:
    """Pretrain the supernet of the found space in FP32."""
    from spaceevo.data import ImagesModule
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import check_learned, found_space, rates_of, start, train
    from spaceevo.steps.teacher import tell_worse
    from spaceevo.training.checkpoint import save_supernet
    from spaceevo.training.pace import bf16_is_faster
    from spaceevo.training.supernet import SupernetModule
    from spaceevo.training.watch import Bar

    start(cfg)
    space = found_space(folder, cfg, hyperspace(cfg))
    images = folder.images(cfg.data, False)
    net, more = _begun(cfg, space, images)
    data = ImagesModule(images, cfg.data, cfg.supernet.batch, cfg.seed, limit=cfg.supernet.images)
    module = SupernetModule(net, space, cfg.supernet, cfg.supernet.epochs * data.steps_per_epoch, cfg.seed)
    largest, record = subnet_graph(Subnet.largest(space)), folder.partial / "pace.json"
    if module.steps:
        module.bf16 = bf16_is_faster(net, largest, data.example(), cfg.supernet, cfg.trainer.precision, record)
    bar, rates = Bar.of(cfg.data.classes, cfg.supernet.batch), rates_of("supernet", cfg.supernet)
    train(folder, cfg, "supernet", rates, module, data, folder.partial, cfg.supernet.epochs, bar=bar)
    accuracies = extremes(cfg.data, module, images)
    if module.steps >= bar.steps:
        check_learned("supernet", rates, accuracies[0], cfg.data.classes, len(images.val))
    tell_worse(folder, accuracies[0])
    save_supernet(folder.output("supernet.ckpt"), net, space, split=images.split, top1_val=accuracies, **more)


def _begun(cfg: Needs, space: SearchSpace, images: Images) -> tuple[Elastic, dict[str, Any]]:
    """The supernet of ``space`` before it is trained, and what its checkpoint tells of its beginning."""
    from spaceevo.data import input_range
    from spaceevo.provenance import sha256
    from spaceevo.training.imported import begin
    from spaceevo.training.supernet import make_supernet

    if cfg.released is None:
        return make_supernet(space, input_range(cfg.data), cfg.device.padding), {}
    path = Path(cfg.released)
    found, same = begin(path, space, input_range(cfg.data), cfg.device.padding)
    trained, head = "quantization-aware" if found.learned else "in FP32", "its own head"
    if not same:
        _fit_head(cfg, found.net, space, images)
        head = "a new head, fitted to the largest subnet's features"
    say(f"supernet: begins as {path}, trained {trained}, with {head}")
    return found.net, dict(learned=dict(found.learned), released_sha256=sha256(path))


def _fit_head(cfg: Needs, net: Elastic, space: SearchSpace, images: Images) -> None:
    """Fit the classifier of ``net`` to what the largest subnet makes of the first training ``images``: else the search of an
    import that is not trained on would be by chance."""
    from spaceevo.data import Normalized
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import calibrating
    from spaceevo.training.head import fit_classifier

    few = Normalized(images.train, cfg.data, HEAD_IMAGES)
    graph, calibration = subnet_graph(Subnet.largest(space)), calibrating(images, cfg.data)
    fit_classifier(net, graph, few, images.train_labels[: len(few)], calibration, HEAD_PENALTY)


def extremes(data: DataConfig, module: SupernetModule, images: Any) -> list[float]:
    """Validation top-1 of the largest and the smallest subnet."""
    from spaceevo.data import Normalized
    from spaceevo.nn.evaluate import recalibrated_top1
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import calibrating

    net, space, quant = module.net.eval(), module.space, module.quantizer
    train = calibrating(images, data)
    accuracies = []
    for net_of in (Subnet.largest, Subnet.smallest):
        graph = subnet_graph(net_of(space))
        validation = Normalized(images.val, data), images.val_labels
        accuracies.append(recalibrated_top1(net, graph, quant, train, *validation))
    name = "supernet" if quant is None else "qat"
    say(f"{name}: largest {accuracies[0]:.2f} %, smallest {accuracies[1]:.2f} % validation top-1")
    return accuracies


STEP = Step(
    "supernet",
    "train stage=supernet",
    "trains the found space's supernet in FP32",
    (*DATA, *SPACE, "space", "device.padding", "supernet", "released", "trainer.precision"),
    ("space.yaml",),
    ("supernet.ckpt",),
    run,
    free=("latency",),
    version=2,
    examples=("stage=supernet supernet.epochs=4",),
)
