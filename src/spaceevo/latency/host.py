"""What this machine is: detected and recorded, never assumed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spaceevo.errors import bad_value

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
VNNI = ("avx512_vnni", "avx_vnni")
X86 = ("x86_64", "AMD64", "i686")
GOVERNOR, THERMAL = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "sys/class/thermal/thermal_zone0/temp"
RUNTIMES = ("onnxruntime", "ai-edge-litert", "openvino", "onnx", "torch", "numpy")


def cpuinfo() -> str:
    """What Linux tells of the CPUs; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def flags(text: str | None = None) -> list[str]:
    """Which of the instruction sets that matter to INT8 kernels the CPU has."""
    lines = (cpuinfo() if text is None else text).splitlines()
    found = {f for line in lines if line.lower().startswith(("flags", "features")) for f in line.split(":", 1)[1].split()}
    return [flag for flag in FLAGS if flag in found]


def weight_bits(setting: str | int, text: str | None = None, machine: str | None = None) -> int:
    """The bits of a weight: ``auto`` is 8 where the CPU has VNNI and 7 on x86 without, where onnxruntime's 8-bit
    kernels add pairs of products in saturating int16.

    Raises:
        UserError: neither auto, 7 nor 8.
    """
    if str(setting) in ("7", "8"):
        return int(setting)
    if setting != "auto":
        raise bad_value("device.weight_bits", setting, "auto, 7 or 8")
    return 7 if saturates(dict(system=machine or platform.machine(), flags=flags(text))) else 8


def saturates(machine: Mapping[str, Any]) -> bool:
    """Whether onnxruntime's products with 8-bit weights saturate on the machine of that description (:func:`describe`)."""
    return machine["system"].split()[-1] in X86 and not set(VNNI) & set(machine["flags"])


def check_threads(threads: int) -> None:
    """Raises:
    UserError: more of them than there are cores would be measured waiting for each other.
    """
    cores = os.cpu_count() or threads
    if threads > cores:
        raise bad_value("device.threads", threads, f"at most {cores}, the cores of this machine")


def describe() -> dict[str, Any]:
    """CPU, its flags, cores, memory and system."""
    names = [line.split(":", 1)[1].strip() for line in cpuinfo().splitlines() if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return dict(
        cpu=names[0] if names else platform.processor() or platform.machine(),
        flags=flags(),
        cores=os.cpu_count(),
        ram_gib=round(pages / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
    )


def conditions(root: Path = Path("/")) -> dict[str, Any]:
    """What a measurement depends on and nobody has set: how the frequency is governed, the temperature in degrees Celsius, and
    how many processes wanted to run in the last minute; None of what the system does not tell."""
    return dict(
        governor=_told(root / GOVERNOR) or None,
        celsius=celsius(_told(root / THERMAL)),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def celsius(text: str) -> float | None:
    """The temperature that Linux tells in thousandths of a degree; None where ``text`` is no such number."""
    return float(text) / 1000 if text.lstrip("-").isdigit() else None


def _told(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    """All of it: what this machine is, the versions it has, and the conditions it works under."""
    return dict(host=describe(), versions=versions(), conditions=conditions())


def unpinned(conditions: Mapping[str, Any]) -> str | None:
    """What may move latencies from one day to the next, in words; None where the frequency is pinned."""
    governor = conditions["governor"]
    if governor == "performance":
        return None
    told = "does not tell how its frequency is governed" if governor is None else f"lets {governor} govern its frequency"
    return f"the machine {told}: latencies may move with it"


def versions() -> dict[str, str]:
    """Versions of what measures and runs models."""
    found = {"python": platform.python_version()}
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
