"""Whose a run folder is: a configuration's, from its first command on that was not refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from spaceevo.app.artifacts import differing
from spaceevo.app.config import Config
from spaceevo.app.plan import given_overrides, pipeline_command
from spaceevo.atomic import write_yaml
from spaceevo.errors import UserError
from spaceevo.provenance import read_record
from spaceevo.steps import STEPS

RUN = "run.yaml"


def check_owner(cfg: Config) -> None:
    """Raises:
    UserError: the run folder is another configuration's, or what says whose it is cannot be read.
    """
    path = Path(cfg.out_dir) / RUN
    theirs = _read(path)
    differ = [] if theirs is None else differing(theirs, identity(cfg))
    if differ:
        raise UserError(
            f"run_dir={cfg.out_dir} is another configuration's ({', '.join(differ)}); give this one a name of its own with "
            f"name=..., or put that run aside with `{pipeline_command(cfg)} start_over=true`"
        )


@contextmanager
def claimed(command: str, cfg: Config) -> Iterator[None]:
    """Make the run folder this configuration's while something is made in it, and leave the config there; a folder that was
    nobody's is nobody's again where that is refused."""
    path = Path(cfg.out_dir) / RUN
    fresh = not path.exists()
    if fresh:
        write_yaml(path, identity(cfg))
    written = [path] if fresh else []
    try:
        written += _write_config(command, cfg)
        yield
    except UserError:
        if fresh and not any(read_record(path.parent, name) for name in STEPS):
            _remove(written, path.parent)
        raise


def identity(cfg: Config) -> dict[str, Any]:
    """What may not change within a run folder: the images, the hyperspace, the device."""
    values = asdict(cfg)
    flat = {"data.name": cfg.data.name, "data.image_size": cfg.data.image_size, "device.name": cfg.device.name}
    flat |= {"data.files": cfg.data.files} if cfg.data.files else {}
    for key in ("hyperspace", "blocks"):
        flat |= {f"{key}.{name}": value for name, value in values[key].items()}
    return flat


def _read(path: Path) -> dict[str, Any] | None:
    """What is recorded, None where nothing is."""
    try:
        theirs = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _broken(path, str(error).splitlines()[0]) from None
    if not isinstance(theirs, dict) or not theirs or not all(isinstance(key, str) for key in theirs):
        raise _broken(path, "not one key and value a line")
    return theirs


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path}: cannot be read ({why}), so that nobody knows whose the folder is; remove it to make it yours")


def _write_config(command: str, cfg: Config) -> list[Path]:
    """The whole config, and what of it was given, where Hydra would put them."""
    folder = Path(cfg.out_dir) / "hydra" / command / ".hydra"
    return [write_yaml(folder / "config.yaml", asdict(cfg)), write_yaml(folder / "overrides.yaml", given_overrides(cfg))]


def _remove(files: list[Path], top: Path) -> None:
    """Files below ``top``, and the folders that this leaves empty."""
    for file in files:
        file.unlink(missing_ok=True)
        for folder in file.parents:
            if not folder.is_relative_to(top):
                break
            with suppress(OSError):
                folder.rmdir()
