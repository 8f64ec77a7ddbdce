"""``python -m spaceevo.train stage=finish``: every chosen subnet trained on alone, quantization-aware, from the weights it
inherits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.errors import UserError
from spaceevo.settings import setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Calibrated, InASpace, OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, JUDGED, SCHEME, SPACE, Step
from spaceevo.training.config import TimedConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class FinishConfig(TimedConfig):
    """Every chosen subnet trained on alone, the largest first, which teaches the others; for 0 the weights are the inherited
    ones, as the paper has it."""

    distill: float = setting(
        "share of what the others learn that is the largest's answer; the rest is the label", least=0, below=1
    )
    first: float = setting("times as long as the others that the largest is trained, since it teaches them", most=1000)
    sure: float = setting("the teacher is sure of an image to whose label it gives this probability", most=1)
    easy: float = setting("share of the images that it is sure of that an epoch of the others has", most=1)

    def check(self) -> None:
        """Raises:
        UserError: seconds and epochs, or neither of them.
        """
        if (self.seconds is None) == (self.epochs is None):
            both = "both are" if self.epochs is not None else "neither is"
            raise UserError(f"finish.seconds={self.seconds} finish.epochs={self.epochs}: {both} given, must be one of them")


class Needs(Trained, InASpace, OnADevice, Protocol):
    """What it reads of the config."""

    finish: FinishConfig

    @property
    def search_subnet(self) -> Calibrated: ...


def run(folder: Folder, cfg: Needs) -> None:
    """One ``finished/<model>.ckpt`` for every entry of ``pareto.yaml``, that of the largest limit first, and the others from
    its answers too; accuracy inherited and finished, on the validation images that chose nothing."""
    import torch

    from spaceevo.data import Normalized, normalize
    from spaceevo.data.folder import FolderImages
    from spaceevo.nn.evaluate import recalibrated_top1
    from spaceevo.nn.extract import Extracted
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.alone import train_alone
    from spaceevo.steps.common import quantizer, start
    from spaceevo.training.answers import answers, easy_images, targets
    from spaceevo.training.checkpoint import load_finished, load_supernet, save_supernet
    from spaceevo.training.subnets import Part

    start(cfg)
    bits = quantizer(cfg).weight_bits
    net, space = load_supernet(folder.input("qat.ckpt"), hyperspace(cfg), folder.maker("qat.ckpt"), weight_bits=bits)
    images = folder.images(cfg.data, False)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    judging = range(len(images.val) - cfg.search_subnet.judge_images, len(images.val))
    validation = Part(Normalized(images.val, cfg.data), judging), images.val_labels[judging.start :]
    teaching = cfg.finish.at_all and cfg.finish.distill > 0 and not isinstance(images.train, FolderImages)
    names = _chosen(folder)
    said: Tensor | None = None  # what the first answers
    for place, (subnet, (name, *others)) in enumerate(names.items()):
        graph, teaches = subnet_graph(Subnet.parse(space, subnet)), teaching and place == 0 and len(names) > 1
        path = folder.output(f"finished/{name}.ckpt")
        if not _done(folder, path):
            own = Extracted(net, graph, {}).net.to(memory_format=torch.channels_last)
            inherited = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            recipe, taught, easy = cfg.finish, images, None
            if teaches:
                recipe = longer(recipe, recipe.first)
            if said is not None:
                taught = replace(images, train_labels=targets(recipe.distill, cfg.data, images, said))
                easy = easy_images(said, images.train_labels, recipe.sure, recipe.label_smoothing), recipe.easy
            steps = train_alone(folder, cfg, recipe, name, own, graph, taught, calibration, easy)
            finished = recalibrated_top1(own, graph, quantizer(cfg), calibration, *validation)
            say(f"finish: {name}: {finished:.2f} % validation top-1 after {steps} steps, {inherited:.2f} % inherited")
            more: dict[str, Any] = dict(subnet=subnet, steps=steps, weight_bits=bits, split=images.split)
            save_supernet(path, own, space, top1_val=finished, top1_inherited=inherited, **more)
            _mark(folder, path).touch()
        _copy(folder, name, others)
        if teaches:
            said = answers(cfg.data, load_finished(path, space, bits)[0], graph, images, calibration)


def _chosen(folder: Folder) -> dict[str, list[str]]:
    """The names of the models by their subnet, those of the largest limit first."""
    import yaml

    names: dict[str, list[str]] = {}
    for entry in reversed(yaml.safe_load(folder.input("pareto.yaml").read_text())["chosen"]):
        names.setdefault(entry["subnet"], []).append(entry["name"])
    return names


def _copy(folder: Folder, name: str, others: list[str]) -> None:
    """The checkpoint of the model ``name`` for ``others`` of the same subnet, where they have none yet."""
    from spaceevo.atomic import atomic_write

    for other in others:
        copy = folder.output(f"finished/{other}.ckpt")
        if not _done(folder, copy):
            atomic_write(copy, folder.output(f"finished/{name}.ckpt").read_bytes())
            _mark(folder, copy).touch()
            say(f"finish: {other}: the same subnet as {name}")


def _mark(folder: Folder, path: Path) -> Path:
    """Stands once the checkpoint ``path`` is this run's."""
    return folder.partial / f"{path.stem}.done"


def _done(folder: Folder, path: Path) -> bool:
    return path.exists() and _mark(folder, path).exists()


def longer(recipe: FinishConfig, times: float) -> FinishConfig:
    """The recipe for ``times`` its seconds or epochs."""
    length = {key: getattr(recipe, key) for key in ("seconds", "epochs")}
    return replace(recipe, **{key: value * times for key, value in length.items() if value is not None})


STEP = Step(
    "finish",
    "train stage=finish",
    "trains every chosen subnet on alone, quantization-aware, from the weights it inherits",
    (*DATA, *SPACE, "space", *SCHEME, "finish", *JUDGED, "trainer.precision"),
    ("pareto.yaml", "qat.ckpt"),
    ("finished/*.ckpt",),
    run,
    free=("latency",),
    version=3,
    examples=("stage=finish finish.seconds=120",),
)
