"""The keys of a config section: each says beside its definition what it may be; its value is in ``conf``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from spaceevo.errors import bad_choice, bad_value


def setting(
    *, least: float | None = None, below: float | None = None, most: float | None = None, choices: tuple[object, ...] = ()
) -> Any:
    """A key that may be one of ``choices``, or a number that is more than 0, as every other one, but for what is said here:
    ``least`` or more, and less than ``below``, or at ``most``."""
    return field(default=MISSING, metadata=dict(least=least, below=below, most=most, choices=choices))


def check_section(name: str, section: Any) -> None:
    """Every value of a section that cannot be, then what its own ``check`` says of several of them.

    Raises:
        UserError: the key, the value and what is allowed.
    """
    for key in fields(section):
        full, value = f"{name}.{key.name}" if name else key.name, getattr(section, key.name)
        choices = key.metadata.get("choices")
        if choices and ("null" if value is None else str(value)) not in map(str, choices):
            raise bad_choice(full, value, choices)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not choices:
            _check_number(full, value, key.metadata)
    if hasattr(section, "check"):
        section.check()


def _check_number(key: str, value: float, may: Mapping[str, Any]) -> None:
    least, below, most = (may.get(bound) for bound in ("least", "below", "most"))
    if value <= 0 if least is None else value < least:
        raise bad_value(key, value, "more than 0" if least is None else f"{least:g} or more")
    if below is not None and value >= below:
        raise bad_value(key, value, f"less than {below:g}")
    if most is not None and value > most:
        raise bad_value(key, value, f"{most:g} or less")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A composed config but for Hydra's own part, as plain data."""
    keys = [str(key) for key in cfg if key != "hydra"]
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, keys), resolve=True))
