"""What the tests share: command lines run as a user runs them, and one finished run of ``experiment=tiny``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from processes import PATIENCE_S, ROOT, forked, kill_when, stop_when

__all__ = ["PATIENCE_S", "ROOT", "TINY", "Command", "forked", "kill_when", "stop_when"]
#: Limits that every subnet keeps on any machine, however busy: what is tested is not this machine's speed.
TINY = ("experiment=tiny", "threads=1", "latency.limits_ms=[1,2]")
Command = Callable[..., "subprocess.CompletedProcess[str]"]
#: HYPOTHESIS_PROFILE=same (`make test`): always the same examples; else (`make test-all`) new ones every time. How long an
#: example takes, which is the machine's matter, fails neither.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "new"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need the finished run come first, the long ones among them. Of two workers that begin at the first test and in
    the middle (``--dist worksteal``), one makes the run while the other tests what needs none; what is stolen last is short."""
    items.sort(key=lambda item: "tiny_run" not in getattr(item, "fixturenames", ()))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """``command("train", "stage=bkd")`` runs ``python -m spaceevo.train stage=bkd`` in an empty folder."""

    def run(entrypoint: str, *arguments: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        module = f"spaceevo.{entrypoint}" if entrypoint else "spaceevo"
        return forked([sys.executable, "-m", module, *arguments], tmp_path, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The run folder of ``python -m spaceevo.pipeline experiment=tiny``: made once for all workers; read it only."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "tiny-run"
    line = [sys.executable, "-m", "spaceevo.pipeline", *TINY, f"run_dir={folder}"]
    with open(shared / "tiny-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = forked(line, shared)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real one, without a window."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as chrome:
        yield chrome
