"""``python -m spaceevo.lut``: tabulate quantized accuracy, MMACs, parameters and latency of sampled sub-stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say

if TYPE_CHECKING:
    from spaceevo.space import Hyperspace
    from spaceevo.training.bkd import Student
    from spaceevo.training.lut import Examiner

TIMED = 8  # students, at most, that tell how long the table will take


def run(cfg: Config) -> None:
    """One file of rows a (stage, block type) as the work goes on, all of them in ``lut.parquet`` at its end."""
    import pandas as pd
    from tqdm import tqdm

    from spaceevo.app.upstream import step_images
    from spaceevo.atomic import write_parquet
    from spaceevo.data import Normalized
    from spaceevo.evolution.files import metadata_of
    from spaceevo.latency.ends import ends_of
    from spaceevo.latency.predictor import Predictor
    from spaceevo.nn.parallel import parallel
    from spaceevo.training.checkpoint import load_checkpoint
    from spaceevo.training.features import BoundaryFeatures
    from spaceevo.training.fit import device_of
    from spaceevo.training.lut import Examiner, tabulate
    from spaceevo.training.recipes import load_students, load_teacher, new_students, quantizer, start

    start(cfg)
    hs, device, folder = hyperspace(cfg), device_of(cfg.trainer.accelerator), partial(cfg, "lut")
    teacher = load_teacher(cfg, hs).to(device)
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    images = step_images("lut", cfg)
    calibration, validation = (
        BoundaryFeatures(teacher, Normalized(pixels, cfg.data, limit), hs.lut_resolutions, cfg.bkd.targets, folder / name)
        for name, pixels, limit in (
            ("calibration", images.train, cfg.tabulate.calibration_images),
            ("validation", images.val, cfg.tabulate.validation_images),
        )
    )
    variance = load_checkpoint(input_path(cfg, "teacher.ckpt"))["variance"]
    examiner = Examiner(calibration, validation, variance, quantizer(cfg))
    students = new_students(hs, teacher, cfg.device.padding)
    load_students(students, input_path(cfg, f"bkd/{students[0].spec.name}.lsq.safetensors").parent, "lsq")
    students = [student.eval().to(device) for student in students]

    def part_of(student: Student) -> Path:
        return folder / f"{student.spec.name}.parquet"

    def rows_of(student: Student) -> pd.DataFrame:
        part = part_of(student)
        if not part.exists():
            spec = hs.stages[student.spec.stage - 1]
            rows = tabulate(student, spec, cfg.tabulate.samples, examiner, lambda g: sum(predictor.ops_ms(g)), cfg.seed)
            write_parquet(part, pd.DataFrame(rows))
        return pd.read_parquet(part)

    side_by_side = parallel if device.type == "cpu" else map
    todo = [student for student in students if not part_of(student).exists()]
    _tell_time(cfg, hs, examiner, todo, side_by_side)
    done = tqdm(side_by_side(rows_of, students), "lut", len(students), disable=not cfg.trainer.progress_bar)
    table = pd.concat(list(done), ignore_index=True)
    write_parquet(output_path(cfg, "lut.parquet"), table, metadata_of(ends_of(predictor, hs)))


def _tell_time(cfg: Config, hs: Hyperspace, examiner: Examiner, students: list[Student], side_by_side: Callable) -> None:
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


main = entrypoint("lut", main_of("lut"))

if __name__ == "__main__":
    main()
