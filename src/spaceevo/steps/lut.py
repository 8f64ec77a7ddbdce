"""``python -m spaceevo.lut``: tabulate quantized accuracy, MMACs, parameters and latency of sampled sub-stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spaceevo.progress import progress
from spaceevo.provenance import PREDICTOR, sha256
from spaceevo.settings import COUNT, IMAGES, setting
from spaceevo.steps.bkd import distilled
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, SPACE, Step
from spaceevo.steps.teacher import Taught, load_teacher
from spaceevo.training.config import BkdConfig

if TYPE_CHECKING:
    from spaceevo.space import Hyperspace
    from spaceevo.training.bkd import Student
    from spaceevo.training.lut import Examiner

TIMED = 8  # students, at most, that tell how long the table will take


@dataclass
class TabulateConfig:
    """The accuracy table."""

    samples: int = setting("sub-stages a width window and resolution", most=COUNT)
    calibration_images: int = setting("training images that a sub-stage's BatchNorm statistics are taken on", most=IMAGES)
    validation_images: int = setting("validation images that a sub-stage is judged on", most=IMAGES)


class Needs(Trained, Taught, OnADevice, Protocol):
    """What it reads of the config."""

    bkd: BkdConfig
    tabulate: TabulateConfig


def run(folder: Folder, cfg: Needs) -> None:
    """One file of rows a (stage, block type) as the work goes on, all of them in ``lut.parquet`` at its end."""
    import pandas as pd

    from spaceevo.atomic import write_parquet
    from spaceevo.data import Normalized
    from spaceevo.evolution.files import metadata_of
    from spaceevo.latency.ends import ends_of
    from spaceevo.latency.predictor import Predictor
    from spaceevo.nn.parallel import parallel
    from spaceevo.steps.common import quantizer, start
    from spaceevo.training.checkpoint import load_checkpoint
    from spaceevo.training.features import BoundaryFeatures
    from spaceevo.training.fit import device_of
    from spaceevo.training.lut import Examiner, tabulate

    start(cfg)
    hs, device, part = hyperspace(cfg), device_of(cfg.trainer.accelerator), folder.partial
    teacher = load_teacher(folder, cfg).to(device)
    predictor = Predictor.load(folder.input(PREDICTOR))
    images = folder.images(cfg.data, False)
    calibration, validation = (
        BoundaryFeatures(teacher, Normalized(pixels, cfg.data, limit), hs.lut_resolutions, cfg.bkd.targets, part / name)
        for name, pixels, limit in (
            ("calibration", images.train, cfg.tabulate.calibration_images),
            ("validation", images.val, cfg.tabulate.validation_images),
        )
    )
    variance = load_checkpoint(folder.input("teacher.ckpt"))["variance"]
    examiner = Examiner(calibration, validation, variance, quantizer(cfg))
    students = [student.to(device) for student in distilled(folder, hs, teacher, cfg.device.padding)]

    def part_of(student: Student) -> Path:
        return part / f"{student.spec.name}.parquet"

    def rows_of(student: Student) -> pd.DataFrame:
        path = part_of(student)
        if not path.exists():
            spec = hs.stages[student.spec.stage - 1]
            rows = tabulate(student, spec, cfg.tabulate.samples, examiner, predictor.blocks_ms, cfg.seed)
            write_parquet(path, pd.DataFrame(rows))
        return pd.read_parquet(path)

    side_by_side = parallel if device.type == "cpu" else map
    todo = [student for student in students if not part_of(student).exists()]
    _tell_time(cfg, hs, examiner, todo, side_by_side)
    done = progress(side_by_side(rows_of, students), "lut", len(students), show=cfg.trainer.progress_bar)
    table = pd.concat(list(done), ignore_index=True)
    write_parquet(folder.output("lut.parquet"), table, metadata_of(ends_of(predictor, hs), _origin(folder, cfg, images.split)))


def _origin(folder: Folder, cfg: Needs, split: str) -> dict[str, Any]:
    """What the table is of, as it tells itself."""
    from spaceevo.space.differences import described, hyperspace_sha256

    hs, config = hyperspace(cfg), folder.subset(DATA)
    return dict(
        hyperspace=described(hs),
        hyperspace_sha256=hyperspace_sha256(hs),
        data={key: config[key] for key in DATA if key in config},
        split=split,
        teacher=sha256(folder.input("teacher.ckpt")),
        device=cfg.device.name,
    )


def _tell_time(cfg: Needs, hs: Hyperspace, examiner: Examiner, students: list[Student], side_by_side: Callable) -> None:
    """How long the table takes, from a sub-stage of each of a few students; the first time, they take longer."""
    few = students[:: -(-len(students) // TIMED)] if students else []
    for _ in range(2):
        began = time.monotonic()
        for _ in side_by_side(examiner.one, few):
            pass
        seconds = time.monotonic() - began
    rows = sum(hs.stages[s.spec.stage - 1].windows for s in students) * cfg.tabulate.samples * len(hs.lut_resolutions)
    if rows:
        a_row = seconds / len(few) / len(hs.lut_resolutions)
        say(f"lut: about {a_row * rows:.0f} s for {rows:,} rows")


STEP = Step(
    "lut",
    "lut",
    "tabulates quantized accuracy, MMACs, parameters and latency of sampled sub-stages",
    (*DATA, *SPACE, "device", "tabulate", "bkd.targets"),
    ("teacher.ckpt", "bkd/*.safetensors", PREDICTOR),
    ("lut.parquet",),
    run,
    needs_latency=True,
    version=2,
)
