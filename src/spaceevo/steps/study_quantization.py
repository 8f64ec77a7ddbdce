"""``python -m spaceevo.study_quantization``: what INT8 brings on the device, op by op and of whole models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from spaceevo.errors import bad_choice
from spaceevo.progress import progress
from spaceevo.settings import CHANNELS, COUNT, PIXELS, SECONDS, setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import OnADevice
from spaceevo.steps.step import Step
from spaceevo.training.config import TrainerConfig

ROWS, HOST, CARDS = "study/rows.parquet", "study/host.json", "models/*/card.json"


@dataclass
class StudyConfig:
    """The paper's figures 1 and 2: what is measured in INT8 and FP32, and how often."""

    models: list[str] = setting("whole models: networks of the literature, and published ones", distinct=True)
    widths: list[int] = setting("input channels of the 1x1 convolutions", most=CHANNELS, distinct=True)
    resolution: int = setting("pixels a side of the models that are no published ones", least=32, most=PIXELS)
    rounds: int = setting("of timed calls, every file in each", most=COUNT)
    runs: int = setting("calls of a file a round", most=COUNT)
    spread_s: float = setting("over how many seconds the rounds of a group of files are spread", least=0, most=SECONDS)

    def check(self) -> None:
        """Raises:
        UserError: no such model.
        """
        from spaceevo.space import published_models
        from spaceevo.space.imagenet import IMAGENET

        known = (*IMAGENET, *published_models())
        for name in self.models:
            if name not in known:
                raise bad_choice("study.models", name, known)


class Needs(OnADevice, Protocol):
    """What it reads of the config."""

    trainer: TrainerConfig
    study: StudyConfig


def run(folder: Folder, cfg: Needs) -> None:
    """A row a file measured, what the machine is, and the page; the models that the run has exported are measured too."""
    from spaceevo.atomic import write_json, write_parquet
    from spaceevo.deploy.runtimes.registry import runtime_called
    from spaceevo.deploy.runtimes.timing import timing_writer
    from spaceevo.deploy.studied import exported_models, measured, single_ops, whole_models
    from spaceevo.latency.host import unpinned
    from spaceevo.latency.machines.machine import machine_of
    from spaceevo.report.studied import pairs, study_table, words_of_models, words_of_ops
    from spaceevo.report.study_page import build_study
    from spaceevo.steps.common import quantizer

    recipe, machine, runtime = cfg.study, machine_of(cfg.device), runtime_called(cfg.device.runtime)
    quant, before = quantizer(cfg), machine.facts()
    if (words := unpinned(before["conditions"])) is not None:
        say(f"study_quantization: {words}")
    write = timing_writer(quant, cfg.device.padding, runtime.name)
    models = [*whole_models(recipe.models, recipe.resolution, write), *exported_models(folder.inputs(CARDS), runtime)]
    subjects = [*single_ops(recipe.widths, write), *models]
    with progress(total=len(subjects), desc="study", show=cfg.trainer.progress_bar) as bar:
        frame = measured(
            subjects,
            lambda files: machine.measure(runtime.name, files, recipe.rounds, recipe.runs, cfg.device.threads, recipe.spread_s),
            recipe.rounds,
            folder.partial / "rows.parquet",
            lambda done: bar.update(done - bar.n),
        )
    host = _told(cfg, before, machine.facts()["conditions"]) | dict(weight_bits=quant.weight_bits, runtime=runtime.name)
    write_parquet(folder.output(ROWS), frame)
    write_json(folder.output(HOST), host)
    build_study(frame, host, folder.out / "study")
    found = pairs(frame)
    say(study_table(found))
    for line in [*words_of_ops(found), *words_of_models(found)]:
        say(f"study_quantization: {line}")


def _told(cfg: Needs, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What the machine is, how files are called on it, what it has, and its conditions ``before`` and ``after``."""
    how = dict(device=cfg.device.name, threads=cfg.device.threads, rounds=cfg.study.rounds, runs=cfg.study.runs)
    return before["host"] | how | dict(versions=before["versions"], before=before["conditions"], after=after)


STEP = Step(
    "study_quantization",
    "study_quantization",
    "measures what INT8 brings on the device, op by op and of whole models (the paper's figures 1 and 2)",
    ("device", "study"),
    (),
    (ROWS, HOST, "study/study.html", "study/figures/*.png"),
    run,
    needs_device=True,
    optional=True,
    examples=(
        "device=host",
        "device=host runtime=litert",
        "run_dir=runs/demo",
        "device=ssh device.host=pi@raspberrypi run_dir=runs/demo out_dir=runs/study-pi",
    ),
    shows=(CARDS,),
)
