"""Sweeps as a user runs them: whole, resumed after a kill, with failed jobs named, through every launcher."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import hydra
import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Command, kill_when

from spaceevo.app.config import folder_name, register_schema
from spaceevo.app.lock import locked
from spaceevo.app.sweep import LAUNCHERS, RECORD, check_launcher
from spaceevo.errors import UserError
from spaceevo.paths import conf_dir

BASE = (*TINY[:2], "run_dir=run")


@pytest.fixture
def run_folder(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run's searches, without its weights, where the command lines find it."""
    return Path(
        shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.ckpt", "bkd", "models", "figures"))
    )


def spaces(folder: Path) -> dict[str, str]:
    """What every job of a sweep over the search of spaces found."""
    found = sorted((folder / "multirun/search_space").glob("*/space.yaml"))
    return {path.parent.name: yaml.safe_load(path.read_text())["space"] for path in found}


def test_a_sweep_runs_what_is_missing_names_what_failed_and_ends_with_a_summary(run_folder: Path, command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = ("search_space", "-m", *BASE, "latency=tight,tiny", "search_space.sample=3,5000")
    done = command(*line, "hydra/launcher=joblib")
    assert done.returncode == 2
    assert "sweep: 4 jobs, 2 missing, 2 failed" in done.stdout
    errors = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert errors == [
        f"error: latency={name} search_space.sample=5000: must be at most search_space.population=10"
        for name in ("tight", "tiny")
    ]
    found = spaces(run_folder)
    assert sorted(found) == [f"latency={name},search_space.sample=3" for name in ("tight", "tiny")]
    summary = run_folder / "multirun/search_space"
    frame = pd.read_parquet(summary / "sweep.parquet")
    assert frame.state.tolist() == ["done", "failed", "done", "failed"]
    assert frame.space.dropna().tolist() == list(found.values())
    assert pd.read_csv(summary / "sweep.csv").columns.tolist() == frame.columns.tolist()
    page = (summary / "sweep.html").read_text()
    assert page.count("<svg") == 3 and "2 failed" in page and all(space in done.stdout for space in found.values())
    assert {path.stem for path in summary.glob("*.png")} == {"sweep-outcomes", "sweep-types", "sweep-widths"}

    shutil.rmtree(summary / "latency=tiny,search_space.sample=3")
    before = (summary / "latency=tight,search_space.sample=3/space.yaml").stat().st_mtime_ns
    again = command(*line)
    assert "sweep: 4 jobs, 1 up to date, 1 missing, 2 failed" in again.stdout
    assert (summary / "latency=tight,search_space.sample=3/space.yaml").stat().st_mtime_ns == before
    assert spaces(run_folder) == found


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_ends_as_an_undisturbed_one(run_folder: Path, tmp_path: Path, command: Command) -> None:
    line = ("-m", *BASE, "latency=tight", "seed=0,1,2", "search_space.evaluations=3000", "search_space.draws=2000")
    killer = tmp_path / "killer"
    killer.mkdir()
    whole = [sys.executable, "-m", "spaceevo.search_space", *line, f"run_dir={run_folder}"]
    kill_when(run_folder / f"multirun/search_space/*/{RECORD}", whole, killer)
    finished = len(spaces(run_folder))
    assert 1 <= finished < 3
    done = command("search_space", *line)
    assert done.returncode == 0 and f"sweep: 3 jobs, {finished} up to date, {3 - finished} missing" in done.stdout
    after_kill = spaces(run_folder)
    shutil.rmtree(run_folder / "multirun")
    assert command("search_space", *line).returncode == 0
    assert spaces(run_folder) == after_kill and len(after_kill) == 3


CRASH = """
import os, sys
from spaceevo.app.cli import entrypoint
sys.argv[0] = "search_space"
entrypoint("search_space", lambda cfg: os._exit(9) if cfg.seed == 1 else None)()
"""


def test_a_job_whose_process_dies_is_named(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    line = [sys.executable, "-c", CRASH, "-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: seed=1: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
@pytest.mark.slow
def test_launchers_end_with_what_this_process_alone_finds(launcher: str, run_folder: Path, command: Command) -> None:
    plugin, extra = LAUNCHERS[launcher] or ("", "")
    pytest.importorskip(f"hydra_plugins.{plugin}", reason=f"needs `pip install 'spaceevo[{extra}]'`")
    line = ("search_space", "-m", *BASE, "latency=tight,tiny", "seed=0,1")
    assert command(*line).returncode == 0
    alone = spaces(run_folder)
    shutil.rmtree(run_folder / "multirun")
    done = command(*line, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    assert spaces(run_folder) == alone and len(alone) == 4
    assert "sweep: 4 jobs, 4 up to date" in command(*line, f"hydra/launcher={launcher}").stdout


def test_unknown_and_missing_launchers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^hydra/launcher=dask: no such launcher; there are: basic, joblib, ray, submitit_l"):
        check_launcher(["seed=0,1", "hydra/launcher=dask"])
    monkeypatch.setenv("PATH", "")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with pytest.raises(UserError, match=r"^hydra/launcher=submitit_slurm: there is no Slurm here"):
        check_launcher(["hydra/launcher=submitit_slurm"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^hydra/launcher=ray: is not installed; install it with `pip install 'spaceevo\[ray\]'`"
    ):
        check_launcher(["hydra/launcher=ray"])
    check_launcher(["hydra/launcher=basic", "seed=0"])


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes(launcher: str) -> None:
    needs = LAUNCHERS[launcher]
    if needs is not None:
        pytest.importorskip(f"hydra_plugins.{needs[0]}")
    register_schema()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose("search_space", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith("Launcher")


def test_folders_of_jobs_are_flat_and_not_too_long() -> None:
    assert folder_name("latency=tight,lut=/tables/onnxw") == "latency=tight,lut=_tables_onnxw"
    long = [folder_name(f"blocks={'x' * 300},seed={seed}") for seed in (0, 1)]
    assert long[0] != long[1] and max(map(len, long)) <= 200


def test_whether_a_bar_is_shown_is_no_part_of_a_jobs_folder(tmp_path: Path, command: Command) -> None:
    command("search_subnet", "-m", "experiment=tiny", "seed=0,1", "trainer.progress_bar=true")
    assert sorted(path.name for path in (tmp_path / "runs/tiny/multirun/search_subnet").glob("seed=*")) == ["seed=0", "seed=1"]


@pytest.mark.parametrize("place", ["run_dir=", "run_dir=/"])
def test_a_sweep_into_nowhere_is_refused(place: str, tmp_path: Path, command: Command) -> None:
    done = command("search_subnet", "-m", "seed=0,1", place)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {place}: must be ")
    assert list(tmp_path.iterdir()) == []


def test_jobs_that_would_share_a_folder_are_refused(tmp_path: Path, command: Command) -> None:
    done = command("search_space", "-m", "threads=1,2")
    assert done.returncode == 2
    assert done.stderr.startswith("error: runs/demo/multirun/search_space: would be the folder of both threads=1 and threads=2")
    assert len(done.stderr.splitlines()) == 1


def test_a_job_waits_for_one_that_outlived_its_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered = threading.Event()

    def job() -> None:
        with locked(tmp_path, wait=True):
            entered.set()

    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=job)
        second.start()
        assert not entered.wait(0.3)
    assert entered.wait(5)
    second.join()
    assert "waiting for the job that is running there" in capsys.readouterr().out
