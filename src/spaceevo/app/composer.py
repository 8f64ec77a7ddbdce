"""Hydra with this project's configs, for those who run its jobs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from spaceevo.paths import conf_dir


@contextmanager
def composer(config_name: str) -> Iterator[Hydra]:
    """Hydra itself, which composes ``conf/<config_name>.yaml`` and runs a job with it, until the context ends."""
    with initialize_config_dir(str(conf_dir()), job_name=config_name, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield hydra
