"""The one config of all entrypoints: composed here of the sections of rooms and steps; values are in ``conf``."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import PIXELS, ExportConfig, holds_pixels
from spaceevo.errors import UserError, bad_value
from spaceevo.latency.config import RUNTIMES, DeviceConfig, LatencyConfig
from spaceevo.paths import conf_dir
from spaceevo.settings import SEED, THREADS, check_section, setting, typed
from spaceevo.space.config import BlocksConfig, HyperspaceConfig
from spaceevo.space.searchspace import only_space
from spaceevo.space.standard import OWN, STANDARD
from spaceevo.steps import COMMANDS, STEPS
from spaceevo.steps.baseline import BaselineConfig
from spaceevo.steps.benchmark import BenchmarkConfig
from spaceevo.steps.fig8_qt import Fig8QtConfig
from spaceevo.steps.finetune import FinetuneConfig
from spaceevo.steps.finish import FinishConfig
from spaceevo.steps.lut import TabulateConfig
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.predictor import PredictorConfig
from spaceevo.steps.profile import ProfileConfig
from spaceevo.steps.report import ReportConfig
from spaceevo.steps.search_space import SearchSpaceConfig
from spaceevo.steps.search_subnet import SearchSubnetConfig
from spaceevo.steps.study_quantization import StudyConfig
from spaceevo.steps.tau import TauConfig
from spaceevo.training.config import BkdConfig, LoggerConfig, SupernetConfig, TeacherConfig, TrainerConfig


@dataclass
class StageConfig:
    """What to train."""

    name: str = setting("its step", choices=tuple(step.name for step in STEPS.values() if step.command.startswith("train ")))


@dataclass
class Config:
    """Everything an entrypoint can be told."""

    name: str = setting("names the run")
    run_dir: str = setting("where its artifacts lie")
    out_dir: str = setting("where a command writes, if not into the run folder")
    seed: int = setting("of every random number", least=0, most=SEED)
    start_over: bool = setting(
        "make a step again, and what follows from it; of the pipeline: all, the old run kept aside until then"
    )
    debug: bool = setting("show the Python traceback of an error")
    threads: int = setting("CPU threads of PyTorch; 0: all; weights are the same bit for bit only at 1", least=0, most=THREADS)
    runtime: str | None = setting(
        "what latencies are measured in, and limits hold for, if not in device.runtime",
        choices=(*RUNTIMES, "null"),
    )
    space: str | None = setting("a search space to use in place of the found one, e.g. demo-012-123")
    model: str | None = setting(
        "what describe tells of, and with space= the one that is made: a published model, or a subnet's encoding"
    )
    lut: str | None = setting(
        "an accuracy table to use in place of lut.parquet: such a file, or a folder of the authors' CSV files"
    )
    released: str | None = setting(
        "a supernet that the paper's authors released (checkpoint.pth, lsq.pth), which space='s begins as"
    )
    adapt: str | None = setting(
        "for predictor: models measured on another device, a CSV or Parquet file, to which device's predictor is moved"
    )
    from_: str | None = setting(
        "typed from=: what finetune starts from: the folder of an exported model, or a file of weights trained on ImageNet"
    )
    baselines: list[str] = setting(
        "the standard networks to train, one or more of these; own: the run's models' subnets, each alone from nothing",
        choices=(*STANDARD, OWN),
        distinct=True,
    )
    also: list[str] = setting("optional steps to run too", choices=tuple(step.name for step in STEPS.values() if step.optional))
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
    study: StudyConfig = field(default_factory=StudyConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


def folder_name(text: str) -> str:
    """``text`` as the name of one folder: without slashes, and of a length that file systems take."""
    flat = text.replace("/", "_")
    if len(flat.encode()) <= 200:
        return flat
    return f"{flat[:150]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def given_or(given: str | None, default: str) -> str:
    """``given``, or where it is null the ``default``."""
    return default if given is None else given


#: At import: a launcher's own process composes a job's config before it calls anything of ours.
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("given_or", given_or, replace=True)


@functools.cache
def register_schema() -> None:
    """Make the types known to Hydra: ``conf/base.yaml`` begins with ``schema``."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for command in COMMANDS.values():
        if command.config is not None:
            store.store(name=f"{command.name}_schema", node=command.config)


def schema_of(config_name: str) -> tuple[type[Any], Callable[[DictConfig], Any]]:
    """An entrypoint's config type, and what makes it, checked, of a composed config. Hydra knows the types from here on."""
    register_schema()
    command = COMMANDS.get(config_name)
    if command is None or command.config is None or command.read is None:
        return Config, to_config
    return command.config, command.read


def to_config(cfg: DictConfig) -> Config:
    """The composed config as plain typed objects, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    config = typed(Config, cfg)
    settle(config)
    check(config)
    return config


def settle(cfg: Config) -> None:
    """Fill what is left to one's own images (data=folder): what they are, and what follows from their size and number; and the
    device's runtime, where another is asked for.

    Raises:
        UserError: they cannot be learned from, or are not as the config describes them; the device is not here.
    """
    if cfg.runtime is not None:
        if cfg.device.runtime == "none":
            raise UserError(f"runtime={cfg.runtime}: device={cfg.device.name} is not here, and nothing is measured")
        cfg.device.runtime = cfg.runtime
    if cfg.data.name == "folder":
        from spaceevo.data.folder import settled

        cfg.data = settled(cfg.data)
    size, chosen, subnets = cfg.data.image_size, cfg.hyperspace, cfg.search_subnet
    if not chosen.resolutions:
        chosen.resolutions = sorted({max(1, round(size * share / 4)) * 4 if share < 1 else size for share in (0.75, 0.875, 1)})
    if not chosen.lut_resolutions:
        chosen.lut_resolutions = sorted({chosen.resolutions[0], chosen.resolutions[-1]})
    if subnets.judge_images == 0:
        subnets.judge_images = max(1, cfg.data.validation // 2)
    if subnets.validation_images == 0:
        subnets.validation_images = max(1, cfg.data.validation - subnets.judge_images)


def compose(config_name: str = "pipeline", overrides: list[str] | None = None) -> Config:
    """The config of an entrypoint without a command line: for tests and notebooks."""
    import hydra

    register_schema()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_config(hydra.compose(config_name, overrides or []))


def check(cfg: Config) -> None:
    """Every value that cannot be: of each section by itself, then of those that have to go together.

    Raises:
        UserError: its key, the value and what is allowed.
    """
    check_section("", cfg)
    space = hyperspace(cfg)
    if cfg.space is None and space.spaces == 1:
        cfg.space = str(only_space(space))  # a hand-designed space: nothing to search
    if cfg.released is not None and cfg.space is None:
        raise UserError(f"released={cfg.released}: needs the space that it is of, e.g. space=spaceevo@vnni")
    if cfg.lut is None and cfg.from_ is None:  # a model's resolution is its own
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


def check_input(cfg: Config) -> None:
    """Raises:
    UserError: files are to take pixels, which the data's mean and std do not make integers of the input.
    """
    if cfg.export.input == PIXELS and not holds_pixels(cfg.data.mean, cfg.data.std):
        raise UserError(
            f"data.mean={cfg.data.mean} data.std={cfg.data.std}: files that take pixels (export.input=pixels) need the same "
            "mean, best a multiple of 1/255, and the same std for all channels; or give export.input=normalized"
        )
