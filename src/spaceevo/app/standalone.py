"""Configs of the commands that belong to no run folder: their types, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from spaceevo.app.config import CHOICES, Config, DataConfig, register_schema, to_config
from spaceevo.errors import UserError, bad_choice, bad_value
from spaceevo.paths import conf_dir


@dataclass
class VerifyConfig:
    """``python -m spaceevo.verify``.

    Attributes:
        path: the folder with ``card.json`` and the model files.
        out_dir: where ``verify.json`` goes; None: beside the card.
        top1_points: most that a top-1 may differ from the card's, in percentage points.
        data: the card's, but for what is given.
    """

    path: str = MISSING
    out_dir: str | None = MISSING
    top1_points: float = MISSING
    progress_bar: bool = MISSING
    debug: bool = MISSING
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class QuantizeConfig:
    """``python -m spaceevo.quantize``.

    Attributes:
        model: a classifier of torchvision by name.
        weights: a file of its state dict; None: random weights.
        calibrate: how onnxruntime's quantizer finds the activations' ranges.
        resolution: of the images, pixels; None: the data's own.
    """

    model: str = MISSING
    weights: str | None = MISSING
    calibrate: str = MISSING
    calibration_images: int = MISSING
    resolution: int | None = MISSING
    out_dir: str = MISSING
    seed: int = MISSING
    threads: int = MISSING
    rounds: int = MISSING
    runs: int = MISSING
    spread_s: float = MISSING
    debug: bool = MISSING
    data: DataConfig = field(default_factory=DataConfig)


def schema_of(config_name: str) -> tuple[type[Any], Callable[[DictConfig], Any]]:
    """An entrypoint's config type, and what makes it of a composed config. Hydra knows the types from here on."""
    register_schema()
    ConfigStore.instance().store(name="verify_schema", node=VerifyConfig)
    ConfigStore.instance().store(name="quantize_schema", node=QuantizeConfig)
    alone = {"verify": (VerifyConfig, to_verify), "quantize": (QuantizeConfig, to_quantize)}
    return alone.get(config_name, (Config, to_config))


def to_verify(cfg: DictConfig) -> VerifyConfig:
    """The composed config, checked; keys of ``data`` that were not given stay missing.

    Raises:
        UserError: an impossible value, with its key.
    """
    plain = _plain(cfg)
    config = VerifyConfig(**{**plain, "data": DataConfig(**plain["data"])})
    if config.path == MISSING:
        raise UserError("path: has no value; give a model's folder, e.g. path=runs/demo/models/host-0.300ms")
    if config.top1_points < 0:
        raise bad_value("top1_points", config.top1_points, "0 or more")
    return config


def to_quantize(cfg: DictConfig) -> QuantizeConfig:
    """The composed config, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    if OmegaConf.is_missing(cfg, "model"):
        raise UserError("model: has no value; give a classifier of torchvision, e.g. model=mobilenet_v2")
    config = cast(QuantizeConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(QuantizeConfig), _plain(cfg))))
    choices = [choice for choice in CHOICES["export.calibrate"] if choice != "null"]
    if config.calibrate not in choices:
        raise bad_choice("calibrate", config.calibrate, choices)
    for key in ("calibration_images", "threads", "rounds", "runs", "resolution"):
        value = getattr(config, key)
        if value is not None and value < 1:
            raise bad_value(key, value, "1 or more")
    return config


def claimed_data(given: DataConfig, claimed: dict[str, Any], card: str) -> DataConfig:
    """The images a card's figures hold for: ``claimed`` by it, the rest ``given`` or by default.

    Raises:
        UserError: other images are given than the card's, or there is no such data set.
    """
    asked = {key: value for key, value in vars(given).items() if value != MISSING}
    for key, value in asked.items():
        if key in claimed and value != claimed[key]:
            raise UserError(f"data.{key}={_word(value)}: {card} claims its figures for data.{key}={_word(claimed[key])}")
    known = {key: value for key, value in claimed.items() if key in vars(given)}
    name = known.get("name", asked.get("name"))
    path = conf_dir() / "data" / f"{name}.yaml"
    if not path.is_file():
        choices = sorted(option.stem for option in path.parent.glob("*.yaml"))
        raise UserError(f"{card}: {bad_choice('data.name', name, choices)}")
    return DataConfig(**{**yaml.safe_load(path.read_text()), **known, **asked})


def _word(value: Any) -> str:
    return "null" if value is None else str(value)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    keys = [str(key) for key in cfg if key != "hydra"]
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True))
