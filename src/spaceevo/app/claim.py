"""Whose a run folder is: a configuration's, until it is cleared."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from spaceevo.app.artifacts import differing
from spaceevo.app.config import Config
from spaceevo.atomic import write_yaml
from spaceevo.errors import UserError
from spaceevo.provenance import matches
from spaceevo.steps import STEPS
from spaceevo.steps.step import AT_BASELINES, Step


def claim(step: Step, cfg: Config) -> None:
    """Make the run folder this configuration's, or refuse.

    Raises:
        UserError: it is another configuration's.
    """
    if step.lenient:
        return
    out = Path(cfg.out_dir)
    if cfg.start_over:
        remove_artifacts(out)
    mine = identity(cfg)
    path = out / "run.yaml"
    try:
        theirs = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        write_yaml(path, mine)
        return
    differ = differing(theirs or {}, mine)
    if differ:
        raise UserError(
            f"run_dir={out} is another configuration's ({', '.join(differ)}); give this one a name of its own with "
            f"name=..., or remove that run's artifacts with start_over=true"
        )


def identity(cfg: Config) -> dict[str, Any]:
    """What may not change within a run folder: the images, the hyperspace, the device."""
    values = asdict(cfg)
    flat = {"data.name": cfg.data.name, "data.image_size": cfg.data.image_size, "device.name": cfg.device.name}
    for key in ("hyperspace", "blocks"):
        flat |= {f"{key}.{name}": value for name, value in values[key].items()}
    return flat


def remove_artifacts(folder: Path) -> None:
    """Remove every step's artifacts, records and partial work from ``folder``, and nothing else."""
    for step in STEPS.values():
        for path in [*matches(folder, step.outputs), f"provenance/{step.name}.json"]:
            with suppress(OSError):
                (folder / path).unlink()
            with suppress(OSError):
                (folder / path).parent.rmdir()
    shutil.rmtree(folder / "partial", ignore_errors=True)
    with suppress(OSError):
        (folder / "run.yaml").unlink()
    if (folder / AT_BASELINES).is_dir():
        remove_artifacts(folder / AT_BASELINES)
