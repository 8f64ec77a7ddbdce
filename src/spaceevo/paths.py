"""Where the configs lie (beside the sources in a checkout, inside the package in an installed wheel), and what is kept."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of Hydra configs."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"


def cache_dir() -> Path:
    """Where is kept what can be made anew: ``$XDG_CACHE_HOME/spaceevo``; it may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spaceevo"
