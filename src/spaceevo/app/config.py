"""The one config of all entrypoints: composed here of the sections of rooms and steps; values are in ``conf``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import ExportConfig
from spaceevo.errors import bad_choice, bad_value
from spaceevo.latency.config import DeviceConfig, LatencyConfig
from spaceevo.paths import conf_dir
from spaceevo.settings import check_section, plain, setting
from spaceevo.space.config import BlocksConfig, HyperspaceConfig
from spaceevo.space.searchspace import only_space
from spaceevo.space.standard import STANDARD
from spaceevo.steps import quantize, verify
from spaceevo.steps.baseline import BaselineConfig
from spaceevo.steps.benchmark import BenchmarkConfig
from spaceevo.steps.fig8_qt import Fig8QtConfig
from spaceevo.steps.finish import FinishConfig
from spaceevo.steps.lut import TabulateConfig
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.predictor import PredictorConfig
from spaceevo.steps.profile import ProfileConfig
from spaceevo.steps.report import ReportConfig
from spaceevo.steps.search_space import SearchSpaceConfig
from spaceevo.steps.search_subnet import SearchSubnetConfig
from spaceevo.steps.tau import TauConfig
from spaceevo.training.config import BkdConfig, LoggerConfig, SupernetConfig, TeacherConfig, TrainerConfig


@dataclass
class StageConfig:
    """What ``python -m spaceevo.train`` trains."""

    name: str = setting(choices=("teacher", "bkd", "supernet", "qat", "finish"))


@dataclass
class Config:
    """Everything an entrypoint can be told."""

    name: str = MISSING
    run_dir: str = MISSING
    out_dir: str = MISSING
    seed: int = setting(least=0)
    start_over: bool = MISSING
    debug: bool = MISSING
    threads: int = setting(least=0)
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
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="verify_schema", node=verify.VerifyConfig)
    store.store(name="quantize_schema", node=quantize.QuantizeConfig)


def schema_of(config_name: str) -> tuple[type[Any], Callable[[DictConfig], Any]]:
    """An entrypoint's config type, and what makes it, checked, of a composed config. Hydra knows the types from here on."""
    register_schema()
    alone: dict[str, tuple[type[Any], Callable[[DictConfig], Any]]] = {
        "verify": (verify.VerifyConfig, verify.read),
        "quantize": (quantize.QuantizeConfig, quantize.read),
    }
    return alone.get(config_name, (Config, to_config))


def to_config(cfg: DictConfig) -> Config:
    """The composed config as plain typed objects, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    typed = OmegaConf.merge(OmegaConf.structured(Config), plain(cfg))
    config = cast(Config, OmegaConf.to_object(typed))
    check(config)
    return config


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
    for section in fields(cfg):
        value = getattr(cfg, section.name)
        if is_dataclass(value):
            check_section(section.name, value)
    for name in cfg.baselines:
        if name not in STANDARD:
            raise bad_choice("baselines", name, STANDARD)
    if not cfg.baselines or len(set(cfg.baselines)) < len(cfg.baselines):
        raise bad_value("baselines", cfg.baselines, f"a list of one or more of {', '.join(STANDARD)}, without repeats")
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
