"""Every step of the pipeline in order: what it depends on, reads and writes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from spaceevo.app.config import Config
from spaceevo.errors import bad_choice

KERNELS, PREDICTOR, TAU = "latency/kernels.parquet", "latency/predictor.json", "tau.parquet"
FIG8 = "fig8_qt.parquet"
#: The images that are learned from and searched on; ``data.test_limit`` matters to the export alone.
DATA = (
    "data.name", "data.channels", "data.classes", "data.image_size", "data.mean", "data.std", "data.flip", "data.shift",
    "data.validation", "data.split_seed", "data.train_limit",
)  # fmt: skip
SPACE = ("hyperspace", "blocks")
TIMING = ("benchmark.rounds", "benchmark.runs", "benchmark.spread_s")
JUDGED = ("search_subnet.calibration_images", "search_subnet.judge_images")
STEERED = ("search_subnet.calibration_images", "search_subnet.validation_images")
SCORED = (
    "search_space.rows", "search_space.draws", "search_space.top", "search_subnet.mutate_probability", "tau.resamples",
)  # fmt: skip
SCHEME = ("device.name", "device.runtime", "device.weight_bits", "device.padding")
MODEL_FILES = ("model.onnx", "model.tflite", "model.safetensors", "fp32.onnx", "parity.json", "card.json")
#: Where a run is searched at the latencies of its baselines: a folder like a multirun's job's.
AT_BASELINES = "baselines/at"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        command: the entrypoint and its fixed overrides, as typed after ``python -m spaceevo.``.
        keys: config subtrees whose change makes the step's artifacts old (the seed is always one).
        inputs, outputs: paths or globs relative to the run folder.
        run: ``module:function`` of the recipe, which is called with the config.
        free: config subtrees that the makers of its inputs may differ in.
        needs_latency: reads predicted or measured latencies of the device.
        lenient: shows whatever the run folder holds, of any config.
        optional: no part of the pipeline unless ``also`` names it, and nothing is built on it: it is run by its own command.
        version: of what the step makes of its inputs and config; raise it by one whenever a change of the code makes that
            something else (a fault mended, another meaning of a column), and not where only its speed or form changes.
            What an older version made is made again, and no step reads it.
    """

    name: str
    command: str
    summary: str
    keys: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: str
    free: tuple[str, ...] = ()
    needs_latency: bool = False
    lenient: bool = False
    optional: bool = False
    version: int = 1


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step(
            "profile",
            "profile",
            "measures INT8 and FP32 blocks and subnets on the device",
            ("device", *SPACE, "data.channels", "data.classes", "profile"),
            (),
            (KERNELS, "latency/host.json"),
            "spaceevo.profile:run",
            needs_latency=True,
        ),
        Step(
            "predictor",
            "predictor",
            "fits the latency predictor to the measurements",
            ("device", *SPACE, "predictor"),
            (KERNELS,),
            (PREDICTOR, "latency/predictor_scores.json"),
            "spaceevo.predictor:run",
            needs_latency=True,
        ),
        Step(
            "teacher",
            "train stage=teacher",
            "trains the teacher",
            (*DATA, "hyperspace.resolutions", "hyperspace.stem", "hyperspace.stages", "teacher", "trainer.precision"),
            (),
            ("teacher.ckpt",),
            "spaceevo.training.recipes:teacher",
            version=2,
        ),
        Step(
            "bkd",
            "train stage=bkd",
            "distils every block type in every stage from the teacher, in FP32 and then quantized",
            (*DATA, *SPACE, *SCHEME, "bkd", "trainer.precision"),
            ("teacher.ckpt",),
            ("bkd/*.safetensors",),
            "spaceevo.training.recipes:bkd",
            version=2,
        ),
        Step(
            "lut",
            "lut",
            "tabulates quantized accuracy, MMACs, parameters and latency of sampled sub-stages",
            (*DATA, *SPACE, "device", "tabulate", "bkd.targets"),
            ("teacher.ckpt", "bkd/*.safetensors", PREDICTOR),
            ("lut.parquet",),
            "spaceevo.lut:run",
            needs_latency=True,
            version=2,
        ),
        Step(
            "search_space",
            "search_space",
            "evolves the search space with the best Q-T score over the latency limits",
            (*SPACE, "device", "latency", "search_space"),
            ("lut.parquet", PREDICTOR),
            ("space.yaml", "search_space.parquet"),
            "spaceevo.search_space:run",
            needs_latency=True,
            version=4,
        ),
        Step(
            "supernet",
            "train stage=supernet",
            "trains the found space's supernet in FP32",
            (*DATA, *SPACE, "space", "device.padding", "supernet", "trainer.precision"),
            ("space.yaml",),
            ("supernet.ckpt",),
            "spaceevo.training.recipes:supernet",
            free=("latency",),
            version=2,
        ),
        Step(
            "qat",
            "train stage=qat",
            "trains the supernet on, quantization-aware",
            (*DATA, *SPACE, "space", *SCHEME, "qat", "trainer.precision"),
            ("space.yaml", "supernet.ckpt"),
            ("qat.ckpt",),
            "spaceevo.training.recipes:qat",
            free=("latency",),
            version=2,
        ),
        Step(
            "tau",
            "tau",
            "measures how well the accuracy table orders random subnets of the trained supernet (Kendall's tau)",
            (*DATA, *SPACE, "space", *SCHEME, "tau", *STEERED),
            ("space.yaml", "qat.ckpt", "lut.parquet"),
            (TAU, "tau.yaml"),
            "spaceevo.tau:run",
            free=("latency",),
        ),
        Step(
            "search_subnet",
            "search_subnet",
            "finds the most accurate quantized subnet within each latency limit",
            (*DATA, *SPACE, "space", "device", "latency", "search_subnet", "finish.seconds", "finish.epochs", *TIMING),
            ("space.yaml", "qat.ckpt", "lut.parquet", PREDICTOR, TAU),
            ("subnets.parquet", "pareto.yaml"),
            "spaceevo.search_subnet:run",
            free=("latency",),
            needs_latency=True,
            version=4,
        ),
        Step(
            "finish",
            "train stage=finish",
            "trains every chosen subnet on alone, quantization-aware, from the weights it inherits",
            (*DATA, *SPACE, "space", *SCHEME, "finish", *JUDGED, "trainer.precision"),
            ("pareto.yaml", "qat.ckpt"),
            ("finished/*.ckpt",),
            "spaceevo.training.finish:finish",
            free=("latency",),
            version=2,
        ),
        Step(
            "export",
            "export",
            "writes the found subnets as INT8 models and checks them against the trained ones",
            (*DATA, "data.test_limit", *SPACE, "device", "export", "search_subnet.calibration_images", *TIMING),
            ("pareto.yaml", "qat.ckpt", "finished/*.ckpt"),
            tuple(f"models/*/{name}" for name in MODEL_FILES),
            "spaceevo.export:run",
            version=3,
        ),
        Step(
            "benchmark",
            "benchmark",
            "measures the exported models and random subnets on the device",
            (*SPACE, "space", "device", "benchmark"),
            ("models/*/model.onnx", "models/*/fp32.onnx", "models/*/card.json", "space.yaml", PREDICTOR),
            ("benchmark.parquet",),
            "spaceevo.benchmark:run",
            needs_latency=True,
            version=2,
        ),
        Step(
            "baseline",
            "baseline",
            "trains standard networks as long as the run took a model, and says which beat its models (not in the pipeline)",
            (*DATA, "data.test_limit", "device", "baselines", "baseline", "export", *JUDGED, *TIMING, "trainer.precision"),
            ("models/*/model.onnx", "models/*/model.tflite", "models/*/card.json"),
            ("baselines.yaml", *(f"baselines/*/{name}" for name in ("trained.ckpt", *MODEL_FILES))),
            "spaceevo.training.baselines:baselines",
            free=("latency",),
            optional=True,
        ),
        Step(
            "fig8_qt",
            "fig8_qt",
            "trains random spaces and compares their accuracy with their Q-T scores (in the pipeline with also=[fig8_qt])",
            (*DATA, *SPACE, "device", "latency", *SCORED, "fig8_qt", "supernet", "qat", *STEERED, "trainer.precision"),
            ("lut.parquet", PREDICTOR),
            (FIG8, "fig8_qt.yaml"),
            "spaceevo.fig8_qt:run",
            needs_latency=True,
            optional=True,
        ),
        Step(
            "report",
            "report",
            "draws what the run folder holds as one HTML page",
            ("report",),
            (
                KERNELS,
                "latency/host.json",
                "latency/predictor_scores.json",
                "lut.parquet",
                "space.yaml",
                "search_space.parquet",
                TAU,
                "tau.yaml",
                "subnets.parquet",
                "pareto.yaml",
                "models/*/card.json",
                "benchmark.parquet",
                "baselines.yaml",
                FIG8,
                "fig8_qt.yaml",
            ),
            ("report.html", "figures/*.png"),
            "spaceevo.report:run",
            lenient=True,
        ),
    )
}
#: Keys that change where or how a step runs, not what it makes.
VOLATILE = ("data.root", "data.workers", "data.download")


def inputs_of(step: Step, cfg: Config) -> tuple[str, ...]:
    """What ``step`` reads under ``cfg``: ``space=`` replaces ``space.yaml``, ``device.predictor=`` the profile, ``lut=`` what
    the search of the space reads; subnets are judged by the supernet or by the table, and by the supernet from those on that
    the table was judged by, where the run has a table of its own."""
    skipped = set()
    if cfg.space is not None:
        skipped.add("space.yaml")
    if cfg.device.predictor is not None:
        skipped.add(KERNELS)
    if step.name == "search_subnet":
        by_table = cfg.search_subnet.quality == "lut"
        skipped.add("qat.ckpt" if by_table else "lut.parquet")
        if by_table or cfg.tau.subnets == 0 or cfg.space is not None or cfg.lut is not None:
            skipped.add(TAU)
    if table_of(step, cfg) is not None:
        skipped |= {"lut.parquet", PREDICTOR}
    return step.inputs if step.lenient else tuple(path for path in step.inputs if path not in skipped)


def table_of(step: Step, cfg: Config) -> Path | None:
    """The accuracy table that ``lut=`` gives ``step`` in place of ``lut.parquet``, None where there is none."""
    return Path(cfg.lut) if cfg.lut is not None and step.name == "search_space" else None


def producer_of(pattern: str) -> Step:
    """The step that writes ``pattern``."""
    return next(step for step in STEPS.values() if pattern in step.outputs)


def needed_steps(cfg: Config) -> list[Step]:
    """The steps a whole pipeline runs: all, but for those whose results ``cfg`` gives and, of a device that is not here, the
    benchmark; of the optional ones those that ``also`` names.

    Raises:
        UserError: ``also`` names something else.
    """
    optional = [step.name for step in STEPS.values() if step.optional]
    for name in cfg.also:
        if name not in optional:
            raise bad_choice("also", name, optional)
    needed, waiting = set(), ["benchmark" if cfg.device.runtime != "none" else "export", *cfg.also]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [producer_of(pattern).name for pattern in inputs_of(STEPS[name], cfg)]
    return [step for step in STEPS.values() if step.name in needed or step.lenient]


def command_for(step: Step, cfg: Config) -> str:
    """What to type to run ``step`` with the same config."""
    return " ".join(["python -m", f"spaceevo.{step.command}", *overrides(cfg)])


def overrides(cfg: Config) -> list[str]:
    """The overrides this process was given, quoted for a shell; without a command line, the run folder's."""
    from hydra.core.hydra_config import HydraConfig

    given = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [f"run_dir={cfg.run_dir}"]
    return [shlex.quote(text) for text in given if text.split("=")[0].lstrip("+") not in ("stage", "start_over", "debug")]


def check_device(step: Step, cfg: Config) -> str | None:
    """Why ``step`` cannot run for want of latencies, predicted or measured, or None."""
    if step.name in ("benchmark", "baseline") and cfg.device.runtime == "none":
        return f"device={cfg.device.name}: is not here to be measured (runtime none); the {step.name} measures device=host"
    if (
        table_of(step, cfg) is not None
        or not step.needs_latency
        or cfg.device.runtime != "none"
        or cfg.device.predictor is not None
    ):
        return None
    name = cfg.device.name
    return (
        f"device={name} has no latency predictor: it cannot be measured here (runtime none); fit one with "
        f"`python -m spaceevo.predictor device={name} device.predictor=...` (needs the published tables or a profile of "
        f"that device), or use device=host"
    )
