"""``python -m spaceevo.lut``: tabulate quantized accuracy, MMACs, parameters and latency of sampled sub-stages."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial


def run(cfg: Config) -> None:
    """One file of rows a (stage, block type) as the work goes on, all of them in ``lut.parquet`` at its end."""
    import pandas as pd
    from tqdm import tqdm

    from spaceevo.app.upstream import step_images
    from spaceevo.atomic import write_parquet
    from spaceevo.data import Normalized
    from spaceevo.latency.limits import fixed_ms
    from spaceevo.latency.predictor import Predictor
    from spaceevo.nn.parallel import parallel
    from spaceevo.training.bkd import Student
    from spaceevo.training.checkpoint import load_checkpoint
    from spaceevo.training.lut import BoundaryFeatures, tabulate
    from spaceevo.training.recipes import load_students, load_teacher, new_students, quantizer, start

    start(cfg)
    hs = hyperspace(cfg)
    teacher = load_teacher(cfg, hs)
    variance = load_checkpoint(input_path(cfg, "teacher.ckpt"))["variance"]
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    images = step_images("lut", cfg)
    calibration, validation = (
        BoundaryFeatures(teacher, Normalized(pixels, cfg.data, limit), hs.lut_resolutions)
        for pixels, limit in (
            (images.train, cfg.tabulate.calibration_images),
            (images.val, cfg.tabulate.validation_images),
        )
    )
    students = new_students(hs, teacher, cfg.device.padding)
    load_students(students, input_path(cfg, f"bkd/{students[0].spec.name}.lsq.safetensors").parent, "lsq")

    def rows_of(student: Student) -> pd.DataFrame:
        part = partial(cfg, "lut") / f"{student.spec.name}.parquet"
        if not part.exists():
            rows = tabulate(
                student.eval(),
                hs.stages[student.spec.stage - 1],
                cfg.tabulate.samples,
                calibration,
                validation,
                variance[student.spec.stage],
                quantizer(cfg),
                lambda graph: sum(predictor.ops_ms(graph)),
                cfg.seed,
            )
            write_parquet(part, pd.DataFrame(rows))
        return pd.read_parquet(part)

    parts = list(tqdm(parallel(rows_of, students), "lut", len(students), disable=not cfg.trainer.progress_bar))
    metadata = {"fixed_ms": {r: fixed_ms(predictor, hs, r) for r in hs.lut_resolutions}}
    write_parquet(output_path(cfg, "lut.parquet"), pd.concat(parts, ignore_index=True), metadata)


main = entrypoint("lut", main_of("lut"))

if __name__ == "__main__":
    main()
