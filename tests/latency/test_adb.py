"""A phone behind adb: a stand-in executable (`phone.py`) that prints what the real one does, its failures included."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from conftest import TINY, Command

from spaceevo.app.config import compose
from spaceevo.errors import UserError
from spaceevo.latency.config import DeviceConfig
from spaceevo.latency.machines.adb import FOLDER
from spaceevo.latency.machines.machine import Machine, machine_of

STAND_IN = Path(__file__).with_name("phone.py")
SERIAL = "9A281FFAZ0"
FILES = {"a/int8": b"x" * 100, "b/fp32": b"x" * 5000}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The phone, with `benchmark_model` at the usual place; `adb` is on the PATH."""
    monkeypatch.setenv("PHONE", str(tmp_path / "phone"))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "adb").write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_IN} "$@"\n')
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    stand_in().make(benchmark=True)
    return tmp_path / "phone"


def stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("phone", STAND_IN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def device(*overrides: str) -> DeviceConfig:
    return compose("profile", ["device=adb", *overrides]).device


@pytest.fixture
def phone(folder: Path) -> Machine:
    return machine_of(device())


def test_it_tells_what_it_is(phone: Machine) -> None:
    facts = phone.facts()
    told = facts["host"]
    assert told["cpu"] == "Google Pixel 4 (msmnile)" and told["flags"] == ["asimddp"] and told["ram_gib"] == 5.4
    assert told["system"] == "Android 13 arm64-v8a" and told["cores"] == 1
    assert facts["conditions"] == {"governor": "schedutil", "celsius": 31.5, "load": 0.42}
    assert len(facts["versions"]["benchmark_model"]) == 12


def test_files_are_pushed_timed_in_turn_and_removed(phone: Machine, folder: Path) -> None:
    times = phone.measure("litert", FILES, 3, 20, 2)
    # bytes + the number of the call, and a half, in µs: the timed calls' mean, not that of the warm-up
    assert times["a/int8"].tolist() == pytest.approx([0.1015, 0.1035, 0.1055])
    assert times["b/fp32"].tolist() == pytest.approx([5.0025, 5.0045, 5.0065])
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == 6 and all("--num_threads=2 --num_runs=20 --min_secs=0" in call for call in calls)
    assert not (folder / "tmp" / Path(FOLDER).name).exists() and (folder / "tmp/benchmark_model").exists()
    assert phone.cold_ms("litert", FILES, 1) == {}


def test_benchmark_model_of_this_machine_is_pushed(folder: Path) -> None:
    (folder / "tmp/benchmark_model").unlink()
    with pytest.raises(UserError, match=r"adb shell: .*benchmark_model.* not found; device\.benchmark_model=<file>"):
        machine_of(device()).measure("litert", FILES, 1, 1, 1)
    mine = machine_of(device(f"device.benchmark_model={folder}/bin/benchmark_model"))
    assert len(mine.measure("litert", FILES, 2, 1, 1)["a/int8"]) == 2


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ("", "device.serial=null: says which only where there is one phone; there are: none"),
        ("A\tdevice\nB\toffline\n", "device.serial=null: .* there are: A \\(device\\), B \\(offline\\)"),
        (f"{SERIAL}\tunauthorized\n", f"device.serial={SERIAL}: unauthorized; allow this computer on the phone's screen"),
        (f"{SERIAL}\toffline\n", f"device.serial={SERIAL}: offline; unplug it"),
        (f"{SERIAL}\tno permissions (missing udev rules?); see x\n", f"device.serial={SERIAL}: no permissions"),
    ],
)
def test_a_phone_that_cannot_be_used_is_told_in_one_line(states: str, told: str, phone: Machine, folder: Path) -> None:
    (folder / "states").write_text(states)
    with pytest.raises(UserError, match=told) as error:
        phone.facts()
    assert "\n" not in str(error.value)


def test_no_such_phone_and_no_adb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"device\.serial=X: no such phone; there are: {SERIAL} \(device\)"):
        machine_of(device("device.serial=X")).facts()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"device\.at=adb: there is no adb here"):
        machine_of(device()).facts()


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("full", "adb push: .*No space left on device"),
        ("killed", "adb shell: Killed"),
        ("untold", "adb shell: benchmark_model told no times: INFO: Encountered unresolved custom op"),
    ],
)
def test_what_goes_wrong_there_is_told_in_one_line_and_nothing_stays(
    trouble: str, told: str, phone: Machine, folder: Path
) -> None:
    (folder / "trouble").write_text(trouble)
    with pytest.raises(UserError, match=told) as error:
        phone.measure("litert", FILES, 2, 1, 1)
    assert "\n" not in str(error.value) and not (folder / "tmp" / Path(FOLDER).name).exists()


def test_only_litert_and_only_times() -> None:
    with pytest.raises(UserError, match=r"device\.runtime=onnxruntime: must be litert for device\.at=adb"):
        machine_of(device("device.runtime=onnxruntime"))
    with pytest.raises(UserError, match="gives times, no outputs"):
        machine_of(device()).ask("outputs", {}, {})


def test_a_profile_that_the_phone_ends_goes_on_where_it_was(command: Command, folder: Path, tmp_path: Path) -> None:
    asked = [*TINY, "device=adb", "run_dir=run", "profile={blocks:31,subnets:2,rounds:1,runs:2}"]
    (folder / "states").write_text(f"{SERIAL}\toffline\n")
    done = command("profile", *asked)
    assert done.returncode == 2 and "offline; unplug it" in done.stderr and "Traceback" not in done.stderr
    (folder / "states").write_text(f"{SERIAL}\tdevice\n")
    (folder / "tmp/benchmark_model").write_text(stand_in().BENCHMARK.replace("{phone}", str(folder)).replace("= 2 ]", "= 63 ]"))
    (folder / "trouble").write_text("killed")
    done = command("profile", *asked)  # in the second group
    assert done.returncode == 2 and "Killed" in done.stderr
    kept = pd.read_parquet(next(tmp_path.glob("run/partial/profile/kernels.parquet")))
    assert len(kept) == 60
    (folder / "trouble").write_text("")
    assert command("profile", *asked).returncode == 0
    frame = pd.read_parquet(tmp_path / "run/latency/kernels.parquet")
    assert len(frame) == 66 and frame.head(60).equals(kept)
    assert json.loads((tmp_path / "run/latency/host.json").read_text())["cpu"] == "Google Pixel 4 (msmnile)"


def test_a_study_of_quantization_is_measured_on_it(folder: Path, command: Command, tmp_path: Path) -> None:
    done = command("study_quantization", "device=adb", "experiment=tiny", "study.rounds=3", "run_dir=run")
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(tmp_path / "run/study/rows.parquet")
    assert len(rows) == 26 and rows.calls.tolist() == 26 * [3] and {len(rounds) for rounds in rows.round_ms} == {3}
    host = json.loads((tmp_path / "run/study/host.json").read_text())
    assert (host["cpu"], host["device"], host["after"]["celsius"]) == ("Google Pixel 4 (msmnile)", "adb", 31.5)
    assert "INT8 pays for" in done.stdout  # to the stand-in a smaller file is a faster one
