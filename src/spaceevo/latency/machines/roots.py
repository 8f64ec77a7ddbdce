"""Root folders of emulated CPUs: Debian's Python for their architecture, the runtimes' wheels for it, and qemu-user.

A folder is set up at the CPU's first use, in ``$XDG_CACHE_HOME/spaceevo/emulated``, without being root and without anything of
this system being changed: apt works in folders of its own, on the sources that this machine has, and packages are unpacked, not
installed. apt checks their signatures, pip the wheels' hashes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spaceevo.atomic import atomic_write, write_json
from spaceevo.errors import UserError
from spaceevo.latency.machines.cpus import Cpu
from spaceevo.latency.runtimes.call import PACKAGES
from spaceevo.paths import cache_dir

EMULATED = ("onnxruntime", "litert")  # runtimes that give the reference's integers
PYTHON, QEMU = ("python3-minimal", "libpython3-stdlib", "libstdc++6"), ("qemu-user-static",)
SITE = "usr/lib/python3/dist-packages"  # within a root folder: where Debian's Python looks
GLIBC = range(17, 37)  # minor versions, of manylinux_2_*, that Debian 12 runs
RECORD = "emulated.json"  # beside the root folder: stands there once all else does
LAYOUT = 1  # of such a folder; raised when what is set up changes
#: apt, in ``{folder}``, for ``{architecture}``: nothing of this system is read but its sources and keys.
APT = """Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::http::Timeout "30";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
"""


def ready(name: str, cpu: Cpu) -> Path:
    """The folder of the CPU called ``name``, set up where it is not: ``qemu``, ``root`` and ``emulated.json``. The runtimes are
    those of this machine, in the same versions.

    Raises:
        UserError: it cannot be set up: what is missing, or what apt or pip says.
    """
    folder, asked = cache_dir() / "emulated" / name, wanted(cpu)
    with suppress(OSError, ValueError):
        if json.loads((folder / RECORD).read_text())["asked"] == asked:
            return folder
    for tool in ("apt-get", "dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise UserError(f"emulated:{name}: there is no {tool} here: an emulated CPU is set up from Debian's packages")
    print(f"emulated:{name}: setting up {folder}, once", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
            new = Path(temporary) / name
            _set_up(f"emulated:{name}", cpu, new, asked)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    except OSError as error:
        raise UserError(f"emulated:{name}: cannot be set up in {folder} ({error.strerror or error})") from None
    return folder


def wanted(cpu: Cpu) -> dict[str, Any]:
    """What a CPU's folder is made of: one that was made of something else is made anew."""
    packages = [PACKAGES[runtime] for runtime in EMULATED]
    return dict(layout=LAYOUT, qemu=cpu.qemu, machine=cpu.machine, wheels={name: version(name) for name in packages})


def python_in(folder: Path) -> Path:
    """The interpreter of a CPU's folder."""
    return next(path for path in sorted((folder / "root/usr/bin").glob("python3.*")) if path.suffix[1:].isdigit())


def command(folder: Path, cpu: Cpu, *arguments: str) -> list[str]:
    """What runs the folder's Python on the CPU: isolated, so that nothing of this one's is found."""
    atomic_write(folder / "root/proc/cpuinfo", cpu.cpuinfo())
    return [str(folder / "qemu"), "-cpu", cpu.qemu, "-L", str(folder / "root"), str(python_in(folder)), "-I", *arguments]


def _set_up(place: str, cpu: Cpu, folder: Path, asked: dict[str, Any]) -> None:
    """All of a CPU's folder, and last the record."""
    here = _run(place, ["dpkg", "--print-architecture"]).strip()
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=folder.parent) as apart:
        emulators = _unpack(place, QEMU, here, Path(apart, "qemu"), Path(apart, "emulators"))
        found = sorted(Path(apart, "emulators/usr/bin").glob(f"qemu-{cpu.machine}*"))
        if not found:
            raise UserError(f"{place}: Debian's {QEMU[0]} has no qemu-{cpu.machine}")
        shutil.copy(found[0], folder / "qemu")
        packages = _unpack(place, PYTHON, cpu.debian, Path(apart, "python"), folder / "root")
    wheels = ["numpy", *(f"{name}=={number}" for name, number in asked["wheels"].items())]
    tags = [f"manylinux_2_{minor}_{cpu.machine}" for minor in GLIBC] + [f"manylinux2014_{cpu.machine}"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile"]
    pip += ["--target", str(folder / "root" / SITE), "--implementation", "cp"]
    pip += ["--python-version", python_in(folder).name.removeprefix("python")]
    _run(place, [*pip, *(word for tag in tags for word in ("--platform", tag)), *wheels])
    told = _run(place, [str(folder / "qemu"), "--version"]).splitlines()[0]
    asking = "import numpy, onnxruntime, ai_edge_litert.interpreter, platform; print(platform.machine(), numpy.__version__)"
    machine, numpy = _run(place, command(folder, cpu, "-c", asking)).split()
    if machine != cpu.machine:
        raise UserError(f"{place}: what was set up is {machine}, not {cpu.machine}")
    write_json(folder / RECORD, dict(asked=asked, qemu=told, numpy=numpy, packages=[*emulators, *packages]))


def _unpack(place: str, packages: Sequence[str], architecture: str, apt: Path, into: Path) -> list[str]:
    """Debian's ``packages`` for an ``architecture``, and what they need, unpacked; what they are called."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "apt.conf").write_text(APT.format(folder=apt, architecture=architecture))
    apt_get = ["apt-get", "-c", str(apt / "apt.conf"), "-y", "-qq"]
    told = subprocess.run([*apt_get, "update"], capture_output=True, text=True, errors="replace")
    _run(place, [*apt_get, "--download-only", "install", *packages], before=told.stderr)
    files = sorted((apt / "cache/archives").glob("*.deb"))
    for file in files:
        _run(place, ["dpkg-deb", "--extract", str(file), str(into)])
    return [file.stem for file in files]


def _run(place: str, line: Sequence[str], before: str = "") -> str:
    """What a command prints. ``before``: what was said before it, which may tell why it fails.

    Raises:
        UserError: it fails; why, in one line.
    """
    done = subprocess.run(line, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode == 0:
        return done.stdout
    lines = [one.strip() for one in f"{before}\n{done.stderr}".splitlines() if one.strip()]
    reasons = [one for one in lines if one.startswith(("W: Failed to fetch", "E: ", "ERROR: ")) or "No module named" in one]
    why = [*reasons, *reversed(lines), f"exit code {done.returncode}"][0]
    raise UserError(f"{place}: {Path(line[0]).name} {next((w for w in line[1:] if w.isalpha()), '')} failed: {why}")
