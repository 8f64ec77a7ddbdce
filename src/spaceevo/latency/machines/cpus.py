"""CPUs that this machine can stand in for: what qemu-user, Debian and wheels call them, and what Linux tells of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from spaceevo.errors import UserError, bad_choice


@dataclass(frozen=True)
class Cpu:
    """A CPU: its name in words, ``machine`` as Linux, qemu and wheels call its kind, ``debian`` as Debian does, ``qemu``: what
    is emulated, and what ``/proc/cpuinfo`` has of it. Runtimes choose kernels by that file, and some of them crash where it is
    the emulating machine's."""

    words: str
    machine: str
    debian: str
    qemu: str
    told: Mapping[str, str]

    def cpuinfo(self) -> str:
        """``/proc/cpuinfo``, with as many processors as this machine has: that is what the other files of the system say."""
        name = {"model name": f"{self.words}, emulated"}
        each = ({"processor": str(number)} | name | dict(self.told) for number in range(os.cpu_count() or 1))
        return "\n".join("".join(f"{key}\t: {value}\n" for key, value in one.items()) for one in each)


def _arm(words: str, qemu: str, features: str, part: str, variant: str, revision: str) -> Cpu:
    told = {"Features": features, "CPU implementer": "0x41", "CPU architecture": "8"}
    told |= {"CPU variant": variant, "CPU part": part, "CPU revision": revision}
    return Cpu(words, "aarch64", "arm64", qemu, told)


_V8 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_HASWELL = (
    "fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx rdtscp lm pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave "
    "avx f16c rdrand lahf_lm abm fsgsbase bmi1 avx2 smep bmi2 erms"
)
#: By the name they are asked for with; features as qemu 7.2 tells them (``getauxval``, ``cpuid``).
CPUS = {
    "cortex-a76": _arm(  # Pixel 4, Raspberry Pi 5: with the dot products of 8-bit integers
        "Cortex-A76", "cortex-a76", f"{_V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", "0xd0b", "0x4", "1"
    ),
    "cortex-a72": _arm("Cortex-A72", "cortex-a72", _V8, "0xd08", "0x0", "3"),  # Raspberry Pi 4: without
    "haswell": Cpu(  # x86 with AVX2, without VNNI
        "Haswell", "x86_64", "amd64", "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid", {"flags": _HASWELL}
    ),
}


def cpu_called(key: str, name: str) -> Cpu:
    """The CPU of ``CPUS`` of that name; ``key``: what was set to it.

    Raises:
        UserError: there is none; which there are.
    """
    if name not in CPUS:
        raise UserError(str(bad_choice(key, name, CPUS)).replace(f"no such {key.rsplit('.', 1)[-1]}", "no such CPU"))
    return CPUS[name]
