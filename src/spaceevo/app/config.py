"""The one config of all entrypoints: types here, values in ``conf``."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.space.graph import PADDINGS
from spaceevo.space.hyperspace import Hyperspace
from spaceevo.space.searchspace import only_space
from spaceevo.space.standard import STANDARD


@dataclass
class StageConfig:
    """What ``python -m spaceevo.train`` trains."""

    name: str = MISSING


@dataclass
class DeviceConfig:
    """The device models are made for."""

    name: str = MISSING
    runtime: str = MISSING
    threads: int = MISSING
    weight_bits: int | str = MISSING
    padding: str = MISSING
    predictor: str | None = MISSING


@dataclass
class LatencyConfig:
    """Latency limits in ms, or as quantiles of the predicted latency of random subnets of the hyperspace."""

    limits_ms: list[float] | None = MISSING
    quantiles: list[float] | None = MISSING


@dataclass
class BlockChoiceConfig:
    """A block type with what it is elastic over."""

    type: str = MISSING
    kernels: list[int] = MISSING
    act: str = MISSING
    expands: list[float] | None = None


@dataclass
class StemConfig:
    """The first convolution."""

    widths: list[int] = MISSING
    kernel: int = MISSING
    stride: int = MISSING
    act: str = MISSING
    depths: list[int] = field(default_factory=lambda: [1])
    deep: bool = False


@dataclass
class StageSpecConfig:
    """One elastic stage of the hyperspace; ``types``: indices of the block types it may have, null for all."""

    widths: list[int] = MISSING
    window: int = MISSING
    depths: list[int] = MISSING
    stride: int = MISSING
    types: list[int] | None = None
    forced_residual: bool = True
    one_width: bool = False


@dataclass
class FixedStageConfig:
    """A first stage whose block type and widths are not searched."""

    block: BlockChoiceConfig = MISSING
    widths: list[int] = MISSING
    depths: list[int] = MISSING
    stride: int = MISSING
    forced_residual: bool = True
    one_width: bool = False


@dataclass
class HeadConfig:
    """What follows the last stage."""

    final_expand: list[int] = MISSING
    act: str = MISSING
    feature_mix: int | None = None


@dataclass
class HyperspaceConfig:
    """The search spaces to choose among."""

    name: str = MISSING
    stem: StemConfig = MISSING
    stages: list[StageSpecConfig] = MISSING
    head: HeadConfig = MISSING
    resolutions: list[int] = MISSING
    lut_resolutions: list[int] = MISSING
    stage0: FixedStageConfig | None = None
    device: str = "host"


@dataclass
class BlocksConfig:
    """The block types a stage may be made of."""

    name: str = MISSING
    blocks: list[BlockChoiceConfig] = MISSING


@dataclass
class DataConfig:
    """Images; ``mean``, ``std``: one a channel; ``validation``: how many training images are held out, of an order that
    ``split_seed`` draws."""

    name: str = MISSING
    root: str = MISSING
    channels: int = MISSING
    classes: int = MISSING
    image_size: int = MISSING
    mean: list[float] = MISSING
    std: list[float] = MISSING
    flip: bool = MISSING
    shift: int = MISSING
    validation: int = MISSING
    split_seed: int = MISSING
    train_limit: int | None = MISSING
    test_limit: int | None = MISSING
    workers: int = MISSING
    download: bool = MISSING


@dataclass
class TeacherConfig:
    """The network that block-wise distillation learns from."""

    name: str = MISSING
    widths: list[int] | None = MISSING
    depth: int = MISSING
    epochs: int = MISSING
    batch: int = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    label_smoothing: float = MISSING
    weights: str | None = MISSING


@dataclass
class TrainerConfig:
    """Arguments of ``lightning.Trainer``; ``precision: auto``: FP32, but where supernet and finish do not quantize the faster
    of it and bf16 on this machine."""

    accelerator: str = MISSING
    devices: int | str = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    progress_bar: bool = MISSING


@dataclass
class LoggerConfig:
    """Where training curves go."""

    name: str = MISSING
    project: str = MISSING
    offline: bool = MISSING


@dataclass
class ProfileConfig:
    """How many kernels and whole subnets are measured, and how often."""

    blocks: int = MISSING
    subnets: int = MISSING
    rounds: int = MISSING
    runs: int = MISSING


@dataclass
class PredictorConfig:
    """The latency predictor."""

    held_out: float = MISSING


@dataclass
class BkdConfig:
    """Block-wise knowledge distillation (paper section 4.5). ``images``: an epoch's, drawn anew for each, null for all;
    ``targets``: the teacher's features of the ``full`` resolution, or of the student's ``own``."""

    epochs: int = MISSING
    lsq_epochs: int = MISSING
    images: int | None = MISSING
    batch: int = MISSING
    lr: float = MISSING
    lsq_lr: float = MISSING
    random_paths: int = MISSING
    targets: str = MISSING


@dataclass
class TabulateConfig:
    """The accuracy table: sub-stages sampled a width window and resolution, and the images they are judged on."""

    samples: int = MISSING
    calibration_images: int = MISSING
    validation_images: int = MISSING


@dataclass
class SearchSpaceConfig:
    """Q-T score and aging evolution (paper sections 4.2 and 4.4).

    Attributes:
        rows: what is scored: the ``measured`` sub-stages, or many by a smooth ``model`` of them; ``auto``: the model for a
            table of the run's own with few rows.
        dimensions: what is searched (Table 2); the rest is that of the space ``base``.
    """

    search: str = MISSING
    mode: str = MISSING
    rows: str = MISSING
    fitting: bool = MISSING
    draws: int = MISSING
    top: int = MISSING
    population: int = MISSING
    sample: int = MISSING
    evaluations: int = MISSING
    dimensions: str = MISSING
    base: str | None = MISSING


@dataclass
class SupernetConfig:
    """Sandwich-rule training of the supernet, in FP32 or quantization-aware; ``images``: an epoch's, drawn anew for each,
    null for all; ``warmup``: the share of the steps over which the learning rate rises, before it falls by ``schedule``;
    ``muon_lr`` and ``muon_decay``: of the convolutions by Muon (``training/optimizer.py``), null: by SGD, as all else."""

    epochs: int = MISSING
    images: int | None = MISSING
    batch: int = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    muon_lr: float | None = MISSING
    muon_decay: float = MISSING
    label_smoothing: float = MISSING
    random_paths: int = MISSING
    warmup: float = MISSING
    clip_norm: float = MISSING
    largest_first: float = MISSING
    dropout: float = MISSING
    schedule: str = MISSING


@dataclass
class TauConfig:
    """How well the accuracy table orders subnets: ``subnets``, random ones of the found space, that are evaluated for it (0: it
    is not measured) and begin the search; ``resamples``: of its bootstrap interval."""

    subnets: int = MISSING
    resamples: int = MISSING


@dataclass
class SearchSubnetConfig:
    """Constrained evolution over subnets (section 5); ``population``: of a generation, of which each limit has its own.

    Of the validation images the first ``validation_images`` steer the evolution, all but the last ``judge_images`` choose
    among finalists, and these last choose nothing: they say how good the chosen and the Pareto front are.
    """

    search: str = MISSING
    quality: str = MISSING
    population: int = MISSING
    parents: int = MISSING
    generations: int = MISSING
    mutate_probability: float = MISSING
    validation_images: int = MISSING
    judge_images: int = MISSING
    calibration_images: int = MISSING
    measure_top: int = MISSING


@dataclass
class AloneConfig:
    """How one network is trained alone, quantization-aware from the share ``quantized_from`` of its steps on."""

    batch: int = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    muon_lr: float | None = MISSING
    muon_decay: float = MISSING
    label_smoothing: float = MISSING
    warmup: float = MISSING
    quantized_from: float = MISSING


@dataclass
class TimedConfig(AloneConfig):
    """And how long: ``seconds`` or ``epochs``, one of them."""

    seconds: float | None = MISSING
    epochs: float | None = MISSING

    @property
    def at_all(self) -> bool:
        return bool(self.seconds or self.epochs)


@dataclass
class FinishConfig(TimedConfig):
    """Every chosen subnet trained on alone (for 0: the inherited weights, as the paper has it), the largest first: of what the
    others are to answer, ``distill`` is what it does, the rest the label; since it teaches them, it is trained
    ``first`` times as long."""

    distill: float = MISSING
    first: float = MISSING


@dataclass
class ExportConfig:
    """The parity gate, and post-training quantization as a baseline.

    Attributes:
        tolerance: least share of the test images that get the trained model's label from an exported one, percent.
        mean_difference: most that its outputs are from the trained model's on average, in steps of the output's quantizer.
        calibrate: how onnxruntime's quantizer finds the activations' ranges; None: no baseline.
        dynamic_batch: ONNX files take any number of images, not one.
        float_io: TFLite files take and give float32, not int8.
    """

    tolerance: float = MISSING
    mean_difference: float = MISSING
    calibrate: str | None = MISSING
    dynamic_batch: bool = MISSING
    float_io: bool = MISSING


@dataclass
class BenchmarkConfig:
    """How many random subnets are measured beside the exported models, how often, and over how many seconds."""

    random_subnets: int = MISSING
    rounds: int = MISSING
    runs: int = MISSING
    spread_s: float = MISSING


@dataclass
class BaselineConfig(AloneConfig):
    """Standard networks trained alone, from nothing, beside the run's models.

    Attributes:
        widths: multipliers of every network's widths; None: the network's own ladder.
        seconds: for training each; None: the run's whole time divided by its number of models.
        search: the run is also searched, and finished, at the latency of each.
    """

    widths: list[float] | None = MISSING
    seconds: float | None = MISSING
    search: bool = MISSING


@dataclass
class Fig8QtConfig:
    """Figure 8 of the paper: ``spaces``, random ones, each trained as the found one is but for the epochs and an epoch's images
    (null: all), and judged by the best of ``subnets`` random ones within each latency limit."""

    spaces: int = MISSING
    supernet_epochs: int = MISSING
    supernet_images: int | None = MISSING
    qat_epochs: int = MISSING
    qat_images: int | None = MISSING
    subnets: int = MISSING


@dataclass
class ReportConfig:
    """``compare``: run folders, of other devices, whose preferences the report shows beside this run's."""

    compare: list[str] = MISSING


@dataclass
class Config:
    """Everything an entrypoint can be told."""

    name: str = MISSING
    run_dir: str = MISSING
    out_dir: str = MISSING
    seed: int = MISSING
    start_over: bool = MISSING
    debug: bool = MISSING
    threads: int = MISSING
    space: str | None = MISSING
    model: str | None = MISSING
    lut: str | None = MISSING
    baselines: list[str] = MISSING
    also: list[str] = MISSING
    stage: StageConfig = field(default_factory=StageConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    hyperspace: HyperspaceConfig = field(default_factory=HyperspaceConfig)
    blocks: BlocksConfig = field(default_factory=BlocksConfig)
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    bkd: BkdConfig = field(default_factory=BkdConfig)
    tabulate: TabulateConfig = field(default_factory=TabulateConfig)
    search_space: SearchSpaceConfig = field(default_factory=SearchSpaceConfig)
    supernet: SupernetConfig = field(default_factory=SupernetConfig)
    qat: SupernetConfig = field(default_factory=SupernetConfig)
    tau: TauConfig = field(default_factory=TauConfig)
    search_subnet: SearchSubnetConfig = field(default_factory=SearchSubnetConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    fig8_qt: Fig8QtConfig = field(default_factory=Fig8QtConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


#: Keys that take one of a few values.
CHOICES: dict[str, tuple[object, ...]] = {
    "stage.name": ("teacher", "bkd", "supernet", "qat", "finish"),
    "device.padding": PADDINGS,
    "device.runtime": ("onnxruntime", "none"),
    "device.weight_bits": ("auto", 7, 8),
    "data.name": ("fashion_mnist", "digits", "cifar10", "imagenet"),
    "teacher.name": ("cnn", "efficientnet_b5"),
    "bkd.targets": ("full", "own"),
    "supernet.schedule": ("linear", "cosine"),
    "qat.schedule": ("linear", "cosine"),
    "export.calibrate": ("null", "minmax", "entropy", "percentile"),
    "search_subnet.search": ("evolution", "random"),
    "search_subnet.quality": ("supernet", "lut"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.strategy": ("auto", "ddp"),
    "trainer.precision": ("32-true", "bf16-mixed", "auto"),
    "logger.name": ("csv", "tensorboard", "wandb"),
    "search_space.search": ("aging", "random", "exhaustive"),
    "search_space.mode": ("sampled", "exact"),
    "search_space.rows": ("auto", "model", "measured"),
    "search_space.dimensions": ("both", "op", "width"),
}
#: Numbers that may be 0; every other one of the sections below is more than 0.
MAY_BE_ZERO = {
    "epochs", "lsq_epochs", "seconds", "quantized_from", "warmup", "weight_decay", "label_smoothing", "momentum",
    "random_paths", "random_subnets", "generations", "largest_first", "dropout", "shift", "mutate_probability", "workers",
    "split_seed", "validation", "tolerance", "mean_difference", "depth", "spread_s", "distill",
}  # fmt: skip
FRACTIONS = {
    "held_out", "label_smoothing", "momentum", "mutate_probability", "largest_first", "dropout", "warmup", "quantized_from",
    "distill",
}  # fmt: skip
CHECKED = (
    "data", "teacher", "profile", "predictor", "bkd", "tabulate", "search_space", "supernet", "qat", "search_subnet", "finish",
    "export", "benchmark", "baseline", "fig8_qt",
)  # fmt: skip


#: Fewer evaluated subnets, or trained spaces, tell no order.
TAU_SUBNETS, FIG8_SPACES = 10, 4


def folder_name(text: str) -> str:
    """``text`` as the name of one folder: without slashes, and of a length that file systems take."""
    flat = text.replace("/", "_")
    if len(flat.encode()) <= 200:
        return flat
    return f"{flat[:150]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


#: At import: a launcher's own process composes a job's config before it calls anything of ours.
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def register_schema() -> None:
    """Make the types known to Hydra: ``conf/base.yaml`` begins with ``schema``."""
    ConfigStore.instance().store(name="schema", node=Config)


def to_config(cfg: DictConfig) -> Config:
    """The composed config as plain typed objects, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    plain = cast(
        dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]), resolve=True)
    )
    typed = OmegaConf.merge(OmegaConf.structured(Config), plain)
    config = cast(Config, OmegaConf.to_object(typed))
    check(config)
    return config


def compose(config_name: str = "pipeline", overrides: list[str] | None = None) -> Config:
    """The config of an entrypoint without a command line: for tests and notebooks."""
    import hydra

    from spaceevo.paths import conf_dir

    register_schema()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_config(hydra.compose(config_name, overrides or []))


def hyperspace(cfg: Config) -> Hyperspace:
    """The config's hyperspace with its block list, for its images; ``<hyperspace>.<blocks>`` where the block list is
    not the hyperspace's own.

    Raises:
        UserError: an impossible value, with its key.
    """
    name = cfg.hyperspace.name
    if cfg.blocks.name != name:
        name = f"{name}.{cfg.blocks.name}"
    content = {**asdict(cfg.hyperspace), "name": name, "blocks": asdict(cfg.blocks)["blocks"]}
    try:
        return Hyperspace.from_dict(content).with_task(cfg.data.channels, cfg.data.classes)
    except UserError as error:
        raise UserError(_config_key(str(error))) from None


def _config_key(message: str) -> str:
    """``Hyperspace`` names its own fields; a user types them below the groups."""
    return f"blocks.{message}" if message.startswith("blocks.") else message


def check(cfg: Config) -> None:
    """Every value that cannot be.

    Raises:
        UserError: its key, the value and what is allowed.
    """
    for key, choices in CHOICES.items():
        section, name = key.split(".")
        value = getattr(getattr(cfg, section), name)
        if ("null" if value is None else str(value)) not in map(str, choices):
            raise bad_choice(key, value, choices)
    if isinstance(cfg.device.weight_bits, str) and cfg.device.weight_bits != "auto":
        cfg.device.weight_bits = int(cfg.device.weight_bits)
    for section in CHECKED:
        for name, value in vars(getattr(cfg, section)).items():
            _check_number(f"{section}.{name}", name, value)
    for key, count, least in (("threads", cfg.threads, 0), ("device.threads", cfg.device.threads, 1)):
        if count < least:
            raise bad_value(key, count, f"{least} or more")
    _check_latency(cfg.latency)
    _check_baselines(cfg)
    _check_tau(cfg.tau)
    if cfg.fig8_qt.spaces < FIG8_SPACES:
        raise bad_value("fig8_qt.spaces", cfg.fig8_qt.spaces, f"{FIG8_SPACES} or more")
    if (cfg.finish.seconds is None) == (cfg.finish.epochs is None):
        both = "both are" if cfg.finish.epochs is not None else "neither is"
        raise UserError(
            f"finish.seconds={cfg.finish.seconds} finish.epochs={cfg.finish.epochs}: {both} given, must be one of them"
        )
    spaces, subnets = cfg.search_space, cfg.search_subnet
    if spaces.sample > spaces.population:
        raise bad_value("search_space.sample", spaces.sample, f"at most search_space.population={spaces.population}")
    if subnets.parents > subnets.population:
        raise bad_value("search_subnet.parents", subnets.parents, f"at most search_subnet.population={subnets.population}")
    if spaces.top > spaces.draws:
        raise bad_value("search_space.top", spaces.top, f"at most search_space.draws={spaces.draws}")
    if spaces.search == "exhaustive" and spaces.dimensions != "both":
        raise UserError("search_space.search=exhaustive: needs search_space.dimensions=both")
    if spaces.fitting and (spaces.mode == "exact" or spaces.search == "exhaustive"):
        raise UserError("search_space.fitting=true: needs search_space.mode=sampled and search_space.search=aging or random")
    if spaces.dimensions != "both" and spaces.base is None:
        raise UserError(f"search_space.dimensions={spaces.dimensions}: needs search_space.base=<the space that keeps the rest>")
    space = hyperspace(cfg)
    if cfg.space is None and space.spaces == 1:
        cfg.space = str(only_space(space))  # a hand-designed space: nothing to search
    if cfg.lut is None:
        check_images(cfg)


def check_images(cfg: Config) -> None:
    """Raises:
    UserError: the hyperspace's resolutions are larger than the images.
    """
    space = hyperspace(cfg)
    if max(space.resolutions) > cfg.data.image_size:
        raise bad_value("hyperspace.resolutions", list(space.resolutions), f"at most data.image_size={cfg.data.image_size}")


def check_judges(cfg: Config) -> None:
    """Raises:
    UserError: the subnet search would judge by images that it chose by.
    """
    subnets = cfg.search_subnet
    left = cfg.data.validation - subnets.validation_images
    if subnets.quality == "supernet" and subnets.judge_images > left:
        allowed = f"at most data.validation - search_subnet.validation_images = {left}"
        raise bad_value("search_subnet.judge_images", subnets.judge_images, allowed)


def _check_number(key: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    zero = name in MAY_BE_ZERO
    if value < 0 or (value == 0 and not zero):
        raise bad_value(key, value, "0 or more" if zero else "more than 0")
    if name in FRACTIONS and value >= 1:
        raise bad_value(key, value, "less than 1")


def _check_tau(tau: TauConfig) -> None:
    if tau.subnets != 0 and tau.subnets < TAU_SUBNETS:
        raise bad_value("tau.subnets", tau.subnets, f"{TAU_SUBNETS} or more, which a tau needs, or 0 for none")
    if tau.resamples < 1:
        raise bad_value("tau.resamples", tau.resamples, "1 or more")


def _check_latency(latency: LatencyConfig) -> None:
    if latency.limits_ms is None and latency.quantiles is None:
        raise UserError("latency: give limits_ms=[...] or quantiles=[...]")
    for key, values, top in (("limits_ms", latency.limits_ms, float("inf")), ("quantiles", latency.quantiles, 1.0)):
        if values is None:
            continue
        allowed = "a list of numbers above 0" + ("" if top > 1 else " and below 1")
        if not values or not all(0 < value < top for value in values):
            raise bad_value(f"latency.{key}", values, allowed)
        if len(set(values)) < len(values):
            raise bad_value(f"latency.{key}", values, "without repeats")


def _check_baselines(cfg: Config) -> None:
    for name in cfg.baselines:
        if name not in STANDARD:
            raise bad_choice("baselines", name, STANDARD)
    if not cfg.baselines or len(set(cfg.baselines)) < len(cfg.baselines):
        raise bad_value("baselines", cfg.baselines, f"a list of one or more of {', '.join(STANDARD)}, without repeats")
    widths = cfg.baseline.widths
    if widths is not None and not (widths and all(width > 0 for width in widths) and len(set(widths)) == len(widths)):
        raise bad_value("baseline.widths", widths, "null or a list of numbers above 0, without repeats")
    if cfg.baseline.seconds == 0:
        raise bad_value("baseline.seconds", cfg.baseline.seconds, "null or more than 0")
