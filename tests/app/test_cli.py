"""Command lines: bad input gets one line and exit code 2; help is in a user's words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spaceevo.app import cli
from spaceevo.app.config import Config
from spaceevo.app.help import description, entrypoint_help, group_options, groups
from spaceevo.paths import conf_dir
from spaceevo.steps import COMMANDS, STEPS

Run = Callable[..., tuple[int, str, list[Config]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("bkd.epochs=3")``: exit code, standard error and the configs that the ``train`` entrypoint was called with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.delenv("SPACEEVO_DEBUG", raising=False)

    def call(*arguments: str, body: Callable[[Config], None] | None = None) -> tuple[int, str, list[Config]]:
        called: list[Config] = []
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        code = 0
        try:
            cli.entrypoint("train", body or called.append)()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err, called

    return call


BAD = {
    "device=nope": "device=nope: no such device; there are: adb, host, intel_vnni, pixel4, ssh",
    "stage=nope": "stage=nope: no such stage; there are: bkd, finetune, finish, qat, supernet, teacher",
    "experiment=nope": "experiment=nope: no such experiment; there are: demo, fig8_qt, folder, import_demo,",
    "logger=nope": "logger=nope: no such logger; there are: csv, tensorboard, wandb",
    "blocks.blocks.0.type=mbv9": "blocks.blocks.0.type=mbv9: no such type; there are: conv, basic, mbv1, mbv1_dual, mbv2,",
    "bkd.epoch=1": "bkd.epoch: no such key; bkd has: epochs, lsq_epochs,",
    "+device.cores=1": "device.cores: no such key; device has: name, runtime,",
    "hyperspace.stages.0.wind=1": "hyperspace.stages[0].wind: no such key; hyperspace.stages.0 has: widths, window,",
    "speed=1": "speed: no such key; there are: name, run_dir,",
    "bkd.epochs=many": "bkd.epochs=many: must be a whole number",
    "debug=maybe": "debug=maybe: must be true or false",
    "latency.limits_ms=fast": "latency.limits_ms=fast: must be a list",
    "latency.limits_ms=[0]": "latency.limits_ms=[0.0]: must be null or a list of numbers above 0",
    "latency.quantiles=[1.5]": "latency.quantiles=[1.5]: must be null or a list of numbers above 0 and below 1",
    "hyperspace.stages.0.window=9": "hyperspace.stages.0.window=9: must be from 1 to 5",
    "blocks.blocks.0.kernels=[4]": "blocks.blocks.0.kernels=4: must be odd and positive",
    "hyperspace.stem.kernel=2": "hyperspace.stem.kernel=2: must be odd and positive",
    "bkd.epochs=-1": "bkd.epochs=-1: must be 0 or more",
    "finish={seconds: 58, epochs: 2}": "finish.seconds=58.0 finish.epochs=2.0: both are given, must be one",
    "finish.until=0": "finish.until=0.0: must be more than 0",
    "supernet.batch=0": "supernet.batch=0: must be more than 0",
    "search_space.sample=1000": "search_space.sample=1000: must be at most search_space.population=500",
    "device.weight_bits=5": "device.weight_bits=5: no such weight_bits; there are: auto, 7, 8",
    "hyperspace.resolutions=[64]": "hyperspace.resolutions=[64]: must be at most data.image_size=28",
    "--fast": "--fast: no such option",
    "search_subnet.quality=guess": "search_subnet.quality=guess: no such quality; there are: supernet, lut",
    "search=best": "search=best: no such search; there are: aging, exhaustive, random",
    "subnet_search=best": "subnet_search=best: no such subnet_search; there are: evolution, fitted, paper, random",
    "seed=0,1": "seed=0,1: several values need -m, which runs one after the other; a list is seed=[0,1]",
    "bkd.lr=[1": "bkd.lr=[1: not key=value",
    "run_dir=[ä": """run_dir=[ä: not key=value as Hydra reads it; a value with other signs than letters, digits and""",
    "device=intel_vnn": "device=intel_vnn: no such device; "
    "there are: adb, host, intel_vnni, pixel4, ssh (did you mean intel_vnni?)",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_gets_one_line_and_exit_code_2(run: Run, argument: str) -> None:
    code, error, called = run(argument)
    assert code == 2 and not called
    assert error.startswith(f"error: {BAD[argument]}"), error
    assert error.count("\n") == 1


def test_good_input_arrives_as_typed_values(run: Run) -> None:
    code, error, (cfg,) = run("bkd.epochs=3", "latency.limits_ms=[0.3,1]", "device.weight_bits=7", "device=pixel4")
    assert (code, error) == (0, "")
    assert cfg.bkd.epochs == 3 and cfg.latency.limits_ms == [0.3, 1.0] and cfg.device.weight_bits == 7
    assert cfg.run_dir == cfg.out_dir == "runs/pixel4"


@pytest.mark.parametrize("folder", ["größe", "a=b", "mit leer", "x#1", "it&s", "~/ä"])
def test_paths_with_any_sign_in_them_arrive_as_they_are(run: Run, folder: str) -> None:
    code, error, (cfg,) = run(f"run_dir={folder}", f"lut=/{folder}/ü")
    assert (code, error) == (0, "")
    assert cfg.run_dir == folder and cfg.lut == f"/{folder}/ü"


def test_multirun_gives_every_job_a_folder_of_its_own(run: Run) -> None:
    code, _, configs = run("-m", "latency=tight,loose", "hydra/launcher=basic")
    assert code == 0
    assert [Path(cfg.out_dir).name for cfg in configs] == ["latency=tight", "latency=loose"]
    assert {cfg.run_dir for cfg in configs} == {"runs/demo"}


def test_multirun_runs_the_other_jobs_of_a_bad_one(run: Run) -> None:
    code, error, configs = run("-m", "bkd.epochs=-1,2")
    assert code == 2 and error == "error: bkd.epochs=-1: must be 0 or more\n"
    assert [cfg.bkd.epochs for cfg in configs] == [2]


def test_unforeseen_error_is_one_line_unless_debugging(run: Run) -> None:
    def fail(cfg: Config) -> None:
        raise ZeroDivisionError("by zero")

    assert run(body=fail)[:2] == (2, "error: ZeroDivisionError: by zero (debug=true shows where)\n")
    code, error, _ = run("debug=true", body=fail)
    assert code == 2 and "Traceback" in error


def test_interrupt_says_how_to_go_on(run: Run) -> None:
    def stop(cfg: Config) -> None:
        raise KeyboardInterrupt

    assert run(body=stop)[:2] == (130, "interrupted: run the same command again to go on\n")
    told = "interrupted: run the same command again without start_over to go on\n"
    assert run("start_over=true", body=stop)[:2] == (130, told)


def test_real_command_line_of_an_unknown_device(command: Callable) -> None:
    done = command("train", "device=nope")
    assert done.returncode == 2
    assert done.stderr == "error: device=nope: no such device; there are: adb, host, intel_vnni, pixel4, ssh\n"


def test_real_multirun_in_processes(command: Callable, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = command("search_subnet", "-m", "latency=tight,loose", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 2
    assert "space.yaml, which is missing; make it with `python -m spaceevo.search_space" in done.stderr
    assert (tmp_path / "runs/demo/multirun/search_subnet/latency=loose/job.json").exists()


def test_overview_names_every_step_with_what_it_reads_and_writes(command: Callable) -> None:
    text = command("").stdout
    for step in STEPS.values():
        assert f"python -m spaceevo.{step.command}\n" in text
    for artifact in ("latency/predictor.json", "space.yaml", "report.html"):
        assert artifact in text


@pytest.mark.parametrize("name", ["train", "pipeline", "search_subnet", "report"])
def test_help_explains_groups_and_keys(name: str) -> None:
    text = entrypoint_help(name)
    assert "hyperspace: the search spaces to choose among" in text and "Examples:" in text
    assert max(map(len, text.splitlines())) <= 130
    for group in groups():
        for option in group_options(group):
            assert group == "stage" or f" {option} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str) -> None:
    text = entrypoint_help(name)
    assert text.startswith(f"python -m spaceevo.{name} ") and "Examples:" in text


def test_every_option_has_a_description_in_its_first_comment() -> None:
    for group in groups():
        for option in group_options(group):
            assert description(conf_dir() / group / f"{option}.yaml"), (group, option)


def test_the_console_script_runs_every_command_that_python_m_runs(command: Callable) -> None:
    """`python -m spaceevo` is its module."""
    text = command("lut", "--help").stdout
    assert text.startswith("python -m spaceevo.lut") and command("", "lut", "--help").stdout == text
    bad = ("run_dir=nowhere", "tau.subnets=3")
    one, other = command("", "tau", *bad), command("tau", *bad)
    assert (one.returncode, one.stderr) == (other.returncode, other.stderr) and one.returncode == 2
    unknown = command("", "fly")
    assert unknown.returncode == 2 and unknown.stderr.startswith("error: command=fly: no such command; there are: baseline, ")
