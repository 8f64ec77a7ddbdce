"""``python -m spaceevo.train stage=finish``: every chosen subnet trained on alone, quantization-aware, from the weights it
inherits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.settings import SECONDS, setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Calibrated, InASpace, OnADevice, Trained
from spaceevo.steps.step import DATA, JUDGED, SCHEME, SPACE, Step
from spaceevo.training.config import TimedConfig, check_length

if TYPE_CHECKING:
    from torch import Tensor

    from spaceevo.data import Images
    from spaceevo.steps.given import Given

ANSWERS = "answers.safetensors"  # of the first model, for the others
LEAST_S = 30.0  # that a subnet gets where the steps before left less: long runs, busy machines


@dataclass
class FinishConfig(TimedConfig):
    """Every chosen subnet trained on alone. The largest is trained first, from the labels, and its answers then teach the
    others; for 0 the weights are the inherited ones, as the paper has it. Where neither seconds nor epochs are given, they
    share what the steps before left of ``until``."""

    until: float = setting(
        "minutes that the run's steps up to this one take together, where neither seconds nor epochs are given", most=SECONDS
    )
    distill: float = setting(
        "share of what subnets learn that is the largest's answer; the rest is the label", least=0, below=1
    )
    first: float = setting("times as long as the others that the largest is trained, which teaches them", most=1000)
    sure: float = setting("the teacher is sure of an image to whose label it gives this probability", most=1)
    easy: float = setting("share of the images that it is sure of that an epoch has then", most=1)

    @property
    def at_all(self) -> bool:
        """Whether anything is trained."""
        return super().at_all or (self.seconds is None and self.epochs is None)

    def check(self) -> None:
        """Raises:
        UserError: seconds and epochs.
        """
        if self.seconds is not None or self.epochs is not None:
            check_length("finish", self)


class Needs(Trained, InASpace, OnADevice, Protocol):
    """What it reads of the config."""

    finish: FinishConfig

    @property
    def search_subnet(self) -> Calibrated: ...


def run(folder: Folder, cfg: Needs) -> None:
    """One ``finished/<model>.ckpt`` for every entry of ``pareto.yaml``: that of the largest limit first, from the labels,
    then the others, side by side, from its answers too; accuracy inherited and finished, on the
    validation images that chose nothing."""
    from spaceevo.steps.beside import at_once, side_by_side
    from spaceevo.steps.common import start
    from spaceevo.steps.given import Given

    start(cfg)
    names = _chosen(folder)
    subnets = {models[0]: subnet for subnet, models in names.items()}
    given = Given.of(folder, cfg)
    recipe = paced(folder, cfg.finish, len(subnets), given.images)
    if teaches(recipe, len(subnets), given.images):
        first = next(iter(subnets))
        _teach(folder, cfg, given, first, subnets.pop(first), recipe)
    workers = at_once(cfg, len(subnets))
    if workers == 1:
        said = _answers(folder)
        for name, subnet in subnets.items():
            _finish(folder, cfg, given, name, subnet, recipe, said)
    else:
        del given
        times = len(subnets) / math.ceil(len(subnets) / workers)  # all together take as long as one after the other
        recipe = replace(recipe, seconds=recipe.seconds and times * recipe.seconds)
        side_by_side(_finish_beside, [(folder, cfg, *model, recipe) for model in subnets.items()], workers)
    for name, *others in names.values():
        _copy(folder, name, others)
    _tell_outdone(folder, cfg, [models[0] for models in names.values()])


def teaches(recipe: FinishConfig, subnets: int, images: Images) -> bool:
    """Whether the first of ``subnets`` is trained before the others, and these from its answers too."""
    from spaceevo.data.imagenet import FolderImages

    return recipe.at_all and recipe.distill > 0 and subnets > 1 and not isinstance(images.train, FolderImages)


def paced(folder: Folder, recipe: FinishConfig, subnets: int, images: Images) -> FinishConfig:
    """``recipe`` with the seconds for each of ``subnets``, where it says by ``until`` how long the run may take: an equal share
    of what the steps before left, of which the first, who teaches, has ``first``."""
    if recipe.seconds is not None or recipe.epochs is not None:
        return recipe
    before = sum(record["wall_s"] for record in takewhile(lambda record: record["step"] != "finish", folder.records()))
    shares = subnets - 1 + (recipe.first if teaches(recipe, subnets, images) else 1)
    seconds = (60 * recipe.until - before) / shares
    if seconds < LEAST_S:
        say(f"finish: the steps before took {before / 60:.1f} minutes of finish.until={recipe.until:g}: {LEAST_S:g} s a subnet")
    return replace(recipe, seconds=max(LEAST_S, seconds))


def _finish_beside(threads: int, folder: Folder, cfg: Needs, name: str, subnet: str, recipe: FinishConfig) -> None:
    """Finish a subnet in a process of its own."""
    from spaceevo.steps.common import start
    from spaceevo.steps.given import Given

    start(cfg, threads)
    _finish(folder, cfg, Given.of(folder, cfg), name, subnet, recipe, _answers(folder))


def _finish(
    folder: Folder, cfg: Needs, given: Given, name: str, subnet: str, recipe: FinishConfig, said: Tensor | None
) -> None:
    """Train ``subnet``, the model ``name``, on by ``recipe``, from the answers ``said`` where there are some; unless a killed
    run did."""
    path = folder.output(f"finished/{name}.ckpt")
    if not _done(folder, path):
        _train(folder, cfg, given, subnet, recipe, said, path)
        _mark(folder, path).touch()


def _teach(folder: Folder, cfg: Needs, given: Given, name: str, subnet: str, recipe: FinishConfig) -> None:
    """Finish ``subnet``, the model ``name``, from the labels, and keep what it answers to the training images."""
    from safetensors.torch import save

    from spaceevo.atomic import atomic_write
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import quantizer
    from spaceevo.training.answers import answers
    from spaceevo.training.checkpoint import load_finished

    times, seconds, epochs = recipe.first, recipe.seconds, recipe.epochs
    longer = replace(recipe, seconds=seconds and times * seconds, epochs=epochs and times * epochs)
    _finish(folder, cfg, given, name, subnet, longer, None)
    if _answers(folder) is None:
        net, _ = load_finished(folder.output(f"finished/{name}.ckpt"), given.space, quantizer(cfg))
        said = answers(cfg.data, net, subnet_graph(Subnet.parse(given.space, subnet)), given.images, given.calibration)
        atomic_write(folder.partial / ANSWERS, save({"said": said}))


def _train(
    folder: Folder, cfg: Needs, given: Given, subnet: str, recipe: FinishConfig, said: Tensor | None, path: Path
) -> None:
    """Train ``subnet`` into ``path``, from the weights it inherits."""
    import torch

    from spaceevo.nn.evaluate import recalibrated_top1
    from spaceevo.nn.extract import Extracted
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.alone import train_alone
    from spaceevo.steps.common import check_learned, quantizer, rates_of
    from spaceevo.training.answers import easy_images, targets
    from spaceevo.training.checkpoint import save_supernet, scheme

    graph, images, easy = subnet_graph(Subnet.parse(given.space, subnet)), given.images, None
    own = Extracted(given.net, graph, {}).net.to(memory_format=torch.channels_last)
    inherited = recalibrated_top1(own, graph, quantizer(cfg), given.calibration, *given.validation)
    if said is not None:
        easy = easy_images(said, images.train_labels, recipe.sure, recipe.label_smoothing), recipe.easy
        images = replace(images, train_labels=targets(recipe.distill, cfg.data, images, said))
    steps = train_alone(folder, cfg, recipe, path.stem, own, graph, images, given.calibration, easy)
    finished = recalibrated_top1(own, graph, quantizer(cfg), given.calibration, *given.validation)
    judged = len(given.validation[1]), inherited
    check_learned(f"finish: {path.stem}", rates_of("finish", recipe), finished, cfg.data.classes, *judged)
    say(f"finish: {path.stem}: {finished:.2f} % validation top-1 after {steps} steps, {inherited:.2f} % inherited")
    more: dict[str, Any] = dict(subnet=subnet, graph=graph.as_data(), steps=steps, split=images.split)
    more |= scheme(quantizer(cfg))
    save_supernet(path, own, given.space, top1_val=finished, top1_inherited=inherited, **more)


def _answers(folder: Folder) -> Tensor | None:
    """What the first of the models answers, ``[1 or 2, N, classes]``, if it teaches the others."""
    from safetensors.torch import load

    path = folder.partial / ANSWERS
    return load(path.read_bytes())["said"] if path.exists() else None


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


def _tell_outdone(folder: Folder, cfg: Needs, names: list[str]) -> None:
    """Which of the models, those of the largest limit first, are less accurate than one that is faster, by more than a standard
    error: a larger network learns less in the same time."""
    from spaceevo.training.checkpoint import load_checkpoint

    top1 = {name: load_checkpoint(folder.output(f"finished/{name}.ckpt"))["top1_val"] for name in names}
    for place, name in enumerate(names):
        best = max(names[place:], key=lambda faster: top1[faster])
        if top1[best] - top1[name] > math.sqrt(top1[best] * (100 - top1[best]) / cfg.search_subnet.judge_images):
            words = f"{top1[name]:.2f} % validation top-1 and {top1[best]:.2f} %: take that, or give a larger finish.until"
            say(f"finish: {name} is less accurate than {best}, which is faster: {words}")


def _mark(folder: Folder, path: Path) -> Path:
    """Stands once the checkpoint ``path`` is this run's."""
    return folder.partial / f"{path.stem}.done"


def _done(folder: Folder, path: Path) -> bool:
    return path.exists() and _mark(folder, path).exists()


STEP = Step(
    "finish",
    "train stage=finish",
    "trains every chosen subnet on alone, quantization-aware, from the weights it inherits",
    (*DATA, *SPACE, "space", *SCHEME, "finish", *JUDGED, "trainer.precision"),
    ("pareto.yaml", "qat.ckpt"),
    ("finished/*.ckpt",),
    run,
    free=("latency",),
    version=6,
    examples=("stage=finish finish.until=15", "stage=finish finish.seconds=120"),
)
