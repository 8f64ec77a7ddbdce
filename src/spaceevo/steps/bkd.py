"""``python -m spaceevo.train stage=bkd``: block-wise knowledge distillation (paper section 4.5) of every elastic stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spaceevo.steps.folder import Folder
from spaceevo.steps.needs import OnADevice, Trained, hyperspace
from spaceevo.steps.step import DATA, SCHEME, SPACE, Step
from spaceevo.steps.teacher import Taught, load_teacher
from spaceevo.training.config import BkdConfig

if TYPE_CHECKING:
    from spaceevo.space import Hyperspace
    from spaceevo.training.bkd import Student
    from spaceevo.training.teacher import Teacher

NOTHING, ENOUGH = 1.0, 50  # the NSR of a stage that gives the mean, and after how many steps all of them are better


class Needs(Trained, Taught, OnADevice, Protocol):
    """What it reads of the config."""

    bkd: BkdConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Distil every elastic stage: ``bkd.epochs`` in FP32, then ``bkd.lsq_epochs`` with LSQ+."""
    import shutil

    from spaceevo.atomic import write_json, write_safetensors
    from spaceevo.data import ImagesModule
    from spaceevo.steps.common import calibrating, quantizer, rates_of, start, train
    from spaceevo.training.bkd import BKDModule
    from spaceevo.training.checkpoint import load_checkpoint
    from spaceevo.training.watch import Bar

    start(cfg)
    hs = hyperspace(cfg)
    guide = load_teacher(folder, cfg)
    known = load_checkpoint(folder.input("teacher.ckpt"))
    moments = list(zip(known["mean"], known["variance"], strict=True))
    images = folder.images(cfg.data, False)
    data = ImagesModule(images, cfg.data, cfg.bkd.batch, cfg.seed, limit=cfg.bkd.images)
    students = new_students(hs, guide, cfg.device.padding)
    for student in students:
        student.standardize(moments[student.spec.stage - 1], moments[student.spec.stage])
    for phase, epochs, quant in (("fp32", cfg.bkd.epochs, None), ("lsq", cfg.bkd.lsq_epochs, quantizer(cfg))):
        part = folder.partial / phase
        done = part / "done.json"
        if done.exists():
            load_students(students, folder.output("bkd"), phase)
            continue
        if quant is not None:
            batch = calibrating(images, cfg.data)
            features = guide.features(batch)
            for student in students:
                student.init_quantizers(features[student.spec.stage - 1], quant)
        steps = epochs * data.steps_per_epoch
        module = BKDModule(students, guide, known["variance"], cfg.bkd, hs.lut_resolutions, steps, cfg.seed, quant)
        rates = rates_of("bkd", cfg.bkd, "lr" if quant is None else "lsq_lr")
        train(folder, cfg, f"bkd-{phase}", rates, module, data, part, epochs, bar=Bar(NOTHING, ENOUGH))
        for student in students:
            write_safetensors(folder.output(f"bkd/{student.spec.name}.{phase}.safetensors"), student.state_dict())
        shutil.rmtree(part, ignore_errors=True)  # the phase's checkpoints
        write_json(done, {"epochs": epochs})


def new_students(hs: Hyperspace, guide: Teacher, padding: str) -> list[Student]:
    """Untrained students of every (stage, block type)."""
    import torch

    from spaceevo.training.bkd import Student, student_specs

    channels = guide.channels
    return [
        Student(spec, channels[spec.stage - 1], channels[spec.stage], padding).to(memory_format=torch.channels_last)
        for spec in student_specs(hs)
    ]


def load_students(students: list[Student], folder: Path, phase: str) -> None:
    """The weights of ``phase`` (fp32 or lsq) for every student."""
    from safetensors.torch import load_file

    for student in students:
        student.load_state_dict(load_file(folder / f"{student.spec.name}.{phase}.safetensors"))


def distilled(folder: Folder, hs: Hyperspace, guide: Teacher, padding: str) -> list[Student]:
    """The students of the run folder, quantized, as they were distilled."""
    students = new_students(hs, guide, padding)
    load_students(students, folder.input(f"bkd/{students[0].spec.name}.lsq.safetensors").parent, "lsq")
    return [student.eval() for student in students]


STEP = Step(
    "bkd",
    "train stage=bkd",
    "distils every block type in every stage from the teacher, in FP32 and then quantized",
    (*DATA, *SPACE, *SCHEME, "bkd", "trainer.precision"),
    ("teacher.ckpt",),
    ("bkd/*.safetensors",),
    run,
    version=2,
    examples=("stage=bkd device=host",),
)
