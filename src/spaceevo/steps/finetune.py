"""``python -m spaceevo.train stage=finetune``: a model trained on for other images, with a classifier for them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spaceevo.errors import UserError
from spaceevo.settings import setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Exported, Trained
from spaceevo.steps.step import DATA, MODEL_FILES, TIMING, Step
from spaceevo.training.config import TimedConfig, check_length

if TYPE_CHECKING:
    from torch import Tensor

    from spaceevo.data import Images
    from spaceevo.nn.elastic import Elastic
    from spaceevo.space import Graph
    from spaceevo.steps.leaving import Judges, Leaving
    from spaceevo.steps.source import Source


@dataclass
class FinetuneConfig(TimedConfig):
    """A model on other images: ``seconds`` or ``epochs``, one of them."""

    head: float = setting("penalty on squared weights of the classifier that is fitted to the features first", most=1)

    def check(self) -> None:
        """Raises:
        UserError: seconds and epochs, or neither of them.
        """
        check_length("finetune", self)


class Needs(Exported, Trained, Protocol):
    """``from_``: typed ``from=``, the model to start from."""

    from_: str | None
    finetune: FinetuneConfig


def run(folder: Folder, cfg: Needs) -> None:
    """``finetuned/<name>/``: the model with a classifier for these images, fitted to its features; then all of it trained on,
    quantization-aware for the last part; its files and its card, as of any other model.

    Raises:
        UserError: ``from=`` is missing or no model of ours; the images are not of its channels, or smaller than it reads.
        ClaimError: the exported model is not the trained one.
    """
    from spaceevo.provenance import sha256
    from spaceevo.steps.common import start
    from spaceevo.steps.leaving import Judges, files_of, gate, words, write
    from spaceevo.steps.measured import measured

    start(cfg)
    source = source_of(cfg)
    cfg = copy.copy(cfg)
    cfg.data = copy.copy(cfg.data)
    cfg.data.mean, cfg.data.std = source.mean, source.std  # as its weights know them
    images = folder.images(cfg.data, True)
    by = Judges.of(cfg, images)
    model = _finetuned(folder, cfg, source, images, by)
    gate("finetune", [model])
    taken = measured(cfg, files_of([model]), {})
    card = write(cfg, model, taken, {source.file.name: sha256(source.file)})
    told = card["finetune"]
    more = f", {card['top1_inherited']:.2f} % with the classifier alone fitted, {told['steps']} steps after that"
    say(words("finetune", card, more))


def source_of(cfg: Needs) -> Source:
    """The model that ``from=`` names, where ``cfg``'s images are such as it reads.

    Raises:
        UserError: there is none, or they are not.
    """
    from spaceevo.steps.source import Source

    if cfg.from_ is None:
        raise UserError(
            "from=null: must be the folder of an exported model, such as runs/photos/models/host-4ms, or a file of weights of "
            "ImageNet"
        )
    source = Source.of(Path(cfg.from_), cfg.data)
    if not source.quantized:
        say(
            f"finetune: {cfg.from_}: {source.name} at {source.graph.input.hw}x{source.graph.input.hw}, padding {source.padding}"
        )
    return source


def _finetuned(folder: Folder, cfg: Needs, source: Source, images: Images, by: Judges) -> Leaving:
    """The model on its way out, trained unless a killed run did that."""
    from spaceevo.data import Normalized
    from spaceevo.deploy.export import recalibrated
    from spaceevo.nn.evaluate import top1
    from spaceevo.steps.alone import train_alone
    from spaceevo.steps.common import quantizer
    from spaceevo.steps.leaving import judged
    from spaceevo.training.checkpoint import load_checkpoint, save_checkpoint

    name = source.name
    path = folder.output(f"finetuned/{name}/trained.ckpt")
    done = folder.partial / "trained"
    net, graph = begun(cfg, source, images, by.calibration)
    if not done.exists():
        before = top1(recalibrated(net, graph, by.calibration, None).logits(Normalized(by.test, cfg.data)), by.labels)
        steps = train_alone(folder, cfg, cfg.finetune, name, net, graph, images, by.calibration)
        state = {key: value.contiguous() for key, value in net.state_dict().items()}
        save_checkpoint(path, dict(graph=graph.as_data(), padding=net.padding, state_dict=state, steps=steps, before=before))
        done.touch()
    told = load_checkpoint(path)
    net.load_state_dict(told["state_dict"])
    facts = dict(
        **source.facts,
        top1_val=_validation(net.eval(), graph, cfg, images, by),
        top1_inherited=told["before"],
        finetune=dict(source=str(cfg.from_), steps=told["steps"], quantizer=quantizer(cfg).weight_bits),
    )
    return judged(cfg, name, path.parent, net, graph, by, facts)


def begun(cfg: Needs, source: Source, images: Images, calibration: Tensor) -> tuple[Elastic, Graph]:
    """The network that training starts from: all of the source but its classifier, which is fitted to its features."""
    import torch

    from spaceevo.data import Normalized, input_range
    from spaceevo.nn.elastic import Elastic
    from spaceevo.steps.common import quantizer
    from spaceevo.training.head import fit_classifier

    graph = source.graph.with_classes(cfg.data.classes)
    net = Elastic(graph, input_range(cfg.data), source.padding).to(memory_format=torch.channels_last)
    mine = net.state_dict()
    theirs = {key: value for key, value in source.state.items() if not key.startswith("input.")}
    kept = {key: value for key, value in theirs.items() if mine[key].shape == value.shape}
    net.load_state_dict({**mine, **kept})
    fit_classifier(net, graph, Normalized(images.train, cfg.data), images.train_labels, calibration, cfg.finetune.head)
    scheme = quantizer(cfg)
    if not source.quantized or scheme.symmetric:  # else those it was trained with are gone on from where quantized_from is 0
        net.init_quantizers(calibration, [graph], graph, scheme)
    return net, graph


def _validation(net: Elastic, graph: Graph, cfg: Needs, images: Images, by: Judges) -> float:
    """Top-1 in percent of the validation images, quantized."""
    from spaceevo.data import Normalized
    from spaceevo.nn.evaluate import recalibrated_top1
    from spaceevo.steps.common import quantizer

    return recalibrated_top1(net, graph, quantizer(cfg), by.calibration, Normalized(images.val, cfg.data), images.val_labels)


STEP = Step(
    "finetune",
    "train stage=finetune",
    "trains a model, or ImageNet's weights, on for other images, with a classifier of their own (not in the pipeline)",
    (
        "from_",
        *DATA,
        "data.test_limit",
        "device",
        "finetune",
        "export",
        "search_subnet.calibration_images",
        *TIMING,
        "trainer.precision",
    ),
    (),
    ("finetuned/*/trained.ckpt", *(f"finetuned/*/{name}" for name in MODEL_FILES)),
    run,
    optional=True,
    version=2,
    examples=(
        "stage=finetune run_dir=runs/flowers from=runs/photos/models/host-4ms data=cifar10",
        "stage=finetune run_dir=runs/flowers from=efficientnet_lite0.pth data=folder data.root=flowers",
    ),
)
