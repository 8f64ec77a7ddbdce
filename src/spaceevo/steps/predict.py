"""``python -m spaceevo.predict``: what an exported model says of image files, seen exactly as its card tells."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig

from spaceevo.errors import UserError
from spaceevo.latency.config import RUNTIMES
from spaceevo.settings import COUNT, THREADS, check_section, plain, setting
from spaceevo.steps.folder import say
from spaceevo.steps.step import Command

if TYPE_CHECKING:
    import numpy as np

    from spaceevo.deploy.claims.predictor import Predictor

STDIN = "-"


@dataclass
class PredictConfig:
    """``python -m spaceevo.predict``."""

    path: str = setting("the folder of an exported model")
    image: str = setting("an image file, a folder of them, or - for one on standard input")
    runtime: str = setting("what runs the model", choices=RUNTIMES)
    top: int = setting("classes that are told of an image, the most probable first", least=1, most=COUNT)
    json: bool = setting("a line of JSON an image, and nothing else on standard output")
    out_dir: str | None = setting("where the pictures of a folder's predictions go; null: none are drawn")
    threads: int = setting("CPU threads of the runtime", least=1, most=THREADS)
    debug: bool = setting("show the Python traceback of an error")


@dataclass(frozen=True)
class Said:
    """What a model says of an image: the probabilities of the classes, and how long the call took, ms. ``label``: the class
    of the folder that the image is in, None where that is none of the model's."""

    name: str
    pixels: np.ndarray
    probabilities: np.ndarray
    ms: float
    label: int | None


def read(cfg: DictConfig) -> PredictConfig:
    """The composed config, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    config = PredictConfig(**plain(cfg))
    for key, example in (("path", "path=runs/photos/models/host-4ms"), ("image", "image=cat.jpg")):
        if getattr(config, key) == MISSING:
            raise UserError(f"{key}: has no value; for instance {example}")
    check_section("", config)
    return config


def run(cfg: PredictConfig) -> None:
    """A line an image, and for a folder what they sum up to: accuracy and confusion where its folders are the classes.

    Raises:
        UserError: no such model or image, or none of the images can be read.
    """
    from spaceevo.deploy.claims.predictor import Predictor

    model = Predictor.of(Path(cfg.path), cfg.runtime, cfg.threads)
    said = []
    for one in _each(cfg.image, model):
        say(_line(one, model.labels, cfg))
        said.append(one)
    if cfg.image == STDIN or not Path(cfg.image).is_dir():
        return
    known = [one for one in said if one.label is not None]
    if not cfg.json:
        say(_sum(said, known, model.labels))
    if cfg.out_dir is not None:
        for path in _drawn(Path(cfg.out_dir), said, known, model.labels):
            if not cfg.json:
                say(f"predict: {path}")


def _each(image: str, model: Predictor) -> Iterator[Said]:
    """Of all images that ``image`` names; those that cannot be read are told on standard error, unless none can."""
    if image == STDIN:
        yield _said(model, "standard input", model.pixels(sys.stdin.buffer.read(), "standard input"), None)
        return
    place = Path(image)
    if not place.is_dir():
        yield _said(model, image, model.pixels(place, image), None)
        return
    files = images_in(place)
    if not files:
        raise UserError(f"image={image}: no image in this folder")
    broken = []
    for path in files:
        name = str(path.relative_to(place))
        try:
            pixels = model.pixels(path, str(path))
        except UserError as error:
            broken.append(error)
            print(f"predict: passed over: {error}", file=sys.stderr, flush=True)
            continue
        folder = path.relative_to(place).parts[0] if path.parent != place else None
        yield _said(model, name, pixels, model.labels.index(folder) if folder in model.labels else None)
    if len(broken) == len(files):
        raise broken[0]


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder and those below it, by name; hidden ones are not."""
    from spaceevo.data.listing import ENDS

    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDS and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _said(model: Predictor, name: str, pixels: np.ndarray, label: int | None) -> Said:
    probabilities, ms = model(pixels[None])
    return Said(name, pixels, probabilities[0], ms, label)


def _line(one: Said, labels: Sequence[str], cfg: PredictConfig) -> str:
    best = one.probabilities.argsort(kind="stable")[::-1][: cfg.top]
    if cfg.json:
        top = [{"label": labels[i], "probability": round(float(one.probabilities[i]), 6)} for i in best]
        told: dict[str, Any] = {"image": one.name, "top": top, "ms": round(one.ms, 4)}
        return json.dumps(told | ({} if one.label is None else {"class": labels[one.label]}), ensure_ascii=False)
    words = ", ".join(f"{labels[i]} {100 * one.probabilities[i]:.1f} %" for i in best)
    return f"{one.name}: {words} ({one.ms:.3g} ms)"


def _sum(said: Sequence[Said], known: Sequence[Said], labels: Sequence[str]) -> str:
    """The sum of a folder's predictions in a line."""
    words = f"predict: {len(said):,} images, {statistics.median(one.ms for one in said):.3g} ms the median call"
    if not known:
        return words
    right = [one.probabilities.argmax() == one.label for one in known]
    by_class = [[r for r, one in zip(right, known, strict=True) if one.label == i] for i in range(len(labels))]
    shares = [sum(rights) / len(rights) for rights in by_class if rights]
    worst = min((i for i, rights in enumerate(by_class) if rights), key=lambda i: sum(by_class[i]) / len(by_class[i]))
    return (
        f"{words}; top-1 {100 * sum(right) / len(right):.2f} % of the {len(known):,} in folders of its classes, "
        f"{100 * statistics.mean(shares):.2f} % the mean of the classes, least of {labels[worst]} "
        f"({100 * sum(by_class[worst]) / len(by_class[worst]):.2f} %)"
    )


def _drawn(folder: Path, said: Sequence[Said], known: Sequence[Said], labels: Sequence[str]) -> Iterator[Path]:
    """The pictures of a folder's predictions: a grid of the first images, and where classes are known the confusion."""
    from spaceevo.report.predictions import confusion, confusion_of, grid, save

    titles = [f"{labels[int(one.probabilities.argmax())]} {100 * one.probabilities.max():.0f} %" for one in said]
    wrong = [one.label not in (None, one.probabilities.argmax()) for one in said]
    yield save(folder / "grid.png", grid([one.pixels for one in said], titles, wrong))
    if known:
        counts = confusion_of(
            [one.label or 0 for one in known], [int(one.probabilities.argmax()) for one in known], len(labels)
        )
        yield save(folder / "confusion.png", confusion(counts, labels).figure)


COMMAND = Command(
    "predict",
    "says what an exported model makes of image files: label, probability, ms",
    run,
    ("path=runs/photos/models/host-4ms image=cat.jpg", "path=runs/photos/models/host-4ms image=photos/test runtime=litert"),
    config=PredictConfig,
    read=read,
)
