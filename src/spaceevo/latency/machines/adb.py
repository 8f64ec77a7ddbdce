"""A phone behind adb, timed by TFLite's ``benchmark_model``: pushed files, its output read."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaceevo.errors import UserError
from spaceevo.latency import host
from spaceevo.latency.measure import GROUP, WARM_UP

FOLDER = "/data/local/tmp/spaceevo"  # on the phone; removed afterwards
COUNT = re.compile(r"count=\d+ .*?\bavg=([0-9.e+]+)")
MARK = "@@"
#: What is asked of a phone, by the name that the answer has here.
FACTS = {
    "maker": "getprop ro.product.manufacturer",
    "model": "getprop ro.product.model",
    "chip": "getprop ro.board.platform",
    "android": "getprop ro.build.version.release",
    "abi": "getprop ro.product.cpu.abi",
    "cores": "grep -c ^processor /proc/cpuinfo",
    "memory": "cat /proc/meminfo",
    "cpuinfo": "cat /proc/cpuinfo",
    "governor": f"cat /{host.GOVERNOR}",
    "heat": f"cat /{host.THERMAL}",
    "load": "cat /proc/loadavg",
    "benchmark": "sha256sum {benchmark}",
}
STATES = {
    "unauthorized": "allow this computer on the phone's screen",
    "offline": "unplug it and plug it in again, or `adb kill-server`",
    "no permissions": "see `adb devices`: udev rules let you use it",
}


@dataclass(frozen=True)
class Adb:
    """``serial``: of the phone, as ``adb devices`` tells it; None: the only one. ``benchmark_model``: a file here, which is
    pushed, or its path on the phone."""

    serial: str | None
    benchmark_model: str

    def ask(self, task: str, asked: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
        """See :data:`spaceevo.latency.machines.machine.Ask`.

        Raises:
            UserError: no such phone, it cannot be used, or ``benchmark_model`` fails there; in one line.
        """
        if task == "outputs":
            raise UserError("adb: benchmark_model gives times, no outputs: accuracy can be checked here or through ssh")
        if task == "cold":
            return {}
        serial = self._found()
        self._shell(serial, f"mkdir -p {FOLDER}")
        try:
            tool = self._tool(serial)
            return self._facts(serial, tool) if task == "facts" else self._measure(serial, tool, files, **asked)
        finally:
            _adb("-s", serial, "shell", f"rm -rf {FOLDER}", check=False)

    def _found(self) -> str:
        """The serial of the phone."""
        lines = _adb("devices").splitlines()[1:]
        states = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if len(line.split()) > 1}
        there = ", ".join(f"{serial} ({state})" for serial, state in states.items()) or "none"
        if self.serial is None and len(states) != 1:
            raise UserError(f"device.serial=null: says which only where there is one phone; there are: {there}")
        serial = self.serial or next(iter(states))
        if serial not in states:
            raise UserError(f"device.serial={serial}: no such phone; there are: {there}")
        if states[serial] != "device":
            hint = next((hint for state, hint in STATES.items() if states[serial].startswith(state)), "see `adb devices`")
            raise UserError(f"device.serial={serial}: {states[serial]}; {hint}")
        return serial

    def _tool(self, serial: str) -> str:
        """``benchmark_model`` on the phone."""
        if not Path(self.benchmark_model).is_file():
            return self.benchmark_model
        _adb("-s", serial, "push", self.benchmark_model, f"{FOLDER}/benchmark_model")
        self._shell(serial, f"chmod 755 {FOLDER}/benchmark_model")
        return f"{FOLDER}/benchmark_model"

    def _facts(self, serial: str, tool: str) -> dict[str, Any]:
        asked = "; ".join(f"echo {MARK}{name}; {line.format(benchmark=tool)} 2>/dev/null" for name, line in FACTS.items())
        told = dict.fromkeys(FACTS, "") | dict(_sections(self._shell(serial, f"{asked}; true")))
        memory = re.search(r"MemTotal:\s+(\d+) kB", told["memory"])
        load = told["load"].split()
        return dict(
            host=dict(
                cpu=f"{told['maker']} {told['model']} ({told['chip'] or 'unknown chip'})",
                flags=host.flags(told["cpuinfo"]),
                cores=int(told["cores"]) if told["cores"].isdigit() else None,
                ram_gib=round(int(memory[1]) / 2**20, 1) if memory else None,
                system=f"Android {told['android']} {told['abi']}",
            ),
            versions={"benchmark_model": told["benchmark"][:12] or "unknown"},
            conditions=dict(
                governor=told["governor"] or None,
                celsius=host.celsius(told["heat"]),
                load=float(load[0]) if load else None,
            ),
        )

    def _measure(
        self,
        serial: str,
        tool: str,
        files: Mapping[str, bytes],
        runtime: str,
        rounds: int,
        runs: int,
        threads: int,
        spread_s: float,
    ) -> dict[str, list[float]]:
        """The mean of the calls of each round, ms."""
        taken: dict[str, list[float]] = {name: [] for name in files}
        names = list(files)
        flags = f"--num_threads={threads} --num_runs={runs} --min_secs=0 --warmup_runs={WARM_UP} --warmup_min_secs=0"
        for start in range(0, len(names), GROUP):
            group = {f"{i}.tflite": name for i, name in enumerate(names[start : start + GROUP])}
            self._push(serial, {file: files[name] for file, name in group.items()})
            loop = f"for f in {' '.join(group)}; do echo {MARK}$f; {tool} --graph={FOLDER}/$f {flags} 2>&1 || exit; done"
            for turn in range(rounds):
                if turn:
                    time.sleep(spread_s / rounds)
                told = dict(_sections(self._shell(serial, loop)))
                for file, name in group.items():
                    taken[name].append(_mean_ms(told.get(file, "")))
        return taken

    def _push(self, serial: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            _adb("-s", serial, "push", *(str(Path(folder, name)) for name in files), FOLDER)

    def _shell(self, serial: str, line: str) -> str:
        return _adb("-s", serial, "shell", line)


def _adb(*arguments: str, check: bool = True) -> str:
    """What adb prints."""
    if shutil.which("adb") is None:
        raise UserError("device.at=adb: there is no adb here; install Debian's adb, or Android's platform tools")
    done = subprocess.run(["adb", *arguments], capture_output=True, text=True, errors="replace")
    if check and done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        last = lines[-1] if lines else f"ended with exit code {done.returncode}"
        if "not found" in last and "benchmark_model" in last:
            last += "; device.benchmark_model=<file>: TensorFlow's android_aarch64_benchmark_model, which is pushed"
        command = next(word for word in ("push", "shell", "devices") if word in arguments)
        raise UserError(f"adb {command}: {last}")
    return done.stdout


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """What follows each line that begins with the mark, by what else is in that line."""
    for part in f"\n{text}".split(f"\n{MARK}")[1:]:
        name, _, told = part.partition("\n")
        yield name.strip(), told.strip()


def _mean_ms(told: str) -> float:
    """The mean of the timed calls, which stand behind those that warm up."""
    found = COUNT.findall(told)
    if len(found) < 2:
        last = told.splitlines()[-1] if told else "it ended at once"
        raise UserError(f"adb shell: benchmark_model told no times: {last}")
    return float(found[-1]) / 1000
