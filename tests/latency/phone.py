"""A stand-in for `adb` and a phone behind it: a folder, and commands that print what real ones do.

Called as `adb` (by a script on the PATH). PHONE is the folder, in which `states` has what `adb devices` lists and `trouble`
what goes wrong: `full` (its storage), `killed` (benchmark_model, in its second call), `untold` (it prints no times).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PHONE = Path(os.environ["PHONE"])
TMP = "/data/local/tmp"
BENCHMARK = """#!/bin/sh
graph=${1#--graph=}
test -f "$graph" || { echo "ERROR: Failed to load model at $graph"; exit 1; }
echo "$@" >> {phone}/calls
calls=$(wc -l < {phone}/calls)
echo "INFO: STARTING!"
echo "INFO: Graph: [$graph]"
echo "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
echo "INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if exceeding 150 seconds."
echo "INFO: count=3 first=900 curr=800 min=800 max=900 avg=850 std=40"
if grep -q killed {phone}/trouble && [ "$calls" = 2 ]; then echo Killed; exit 137; fi
if grep -q untold {phone}/trouble; then echo "INFO: Encountered unresolved custom op"; exit 0; fi
us=$(($(wc -c < "$graph") + calls))
echo "INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds."
echo "INFO: count=20 first=$us curr=$us min=$us max=$us avg=$us.5 std=2 p5=$us median=$us p95=$us"
echo "INFO: Inference timings in us: Init: 855, First inference: 900, Warmup (avg): 850, Inference (avg): $us.5"
"""
PROPERTIES = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 4",
    "ro.board.platform": "msmnile",
    "ro.build.version.release": "13",
    "ro.product.cpu.abi": "arm64-v8a",
}
GETPROP = "#!/bin/sh\ncase $1 in\n" + "".join(f"{key}) echo '{value}';;\n" for key, value in PROPERTIES.items()) + "esac\n"
SYSTEM = {
    "/proc/meminfo": "MemTotal:        5660000 kB\nMemFree: 1 kB\n",
    "/proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "/sys/class/thermal/thermal_zone0/temp": "31500\n",
    "/proc/loadavg": "0.42 0.3 0.2 1/900 1234\n",
}


def make(benchmark: bool) -> None:
    """The folder as a phone of one state, with benchmark_model or without."""
    (PHONE / "tmp").mkdir(parents=True)
    (PHONE / "bin").mkdir()
    (PHONE / "states").write_text("9A281FFAZ0\tdevice\n")
    (PHONE / "trouble").write_text("")
    (PHONE / "calls").write_text("")
    tools = {"bin/getprop": GETPROP, "bin/benchmark_model": BENCHMARK.replace("{phone}", str(PHONE))}
    if benchmark:
        tools["tmp/benchmark_model"] = tools["bin/benchmark_model"]
    for name, text in tools.items():
        (PHONE / name).write_text(text)
        (PHONE / name).chmod(0o755)
    for path, text in SYSTEM.items():
        place = PHONE / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def shell(line: str) -> int:
    """What `adb shell` does with a line."""
    for path in (TMP, *SYSTEM):
        line = line.replace(path, str(PHONE / ("tmp" if path == TMP else path.lstrip("/"))))
    env = {**os.environ, "PATH": f"{PHONE / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(["/bin/sh", "-c", line], env=env).returncode


def push(files: list[str], place: str) -> int:
    """What `adb push` does."""
    for file in files:
        if "full" in (PHONE / "trouble").read_text():
            print(f"adb: error: failed to copy '{file}' to '{place}': remote No space left on device", file=sys.stderr)
            return 1
        target = PHONE / "tmp" / os.path.relpath(place, TMP)
        shutil.copy(file, target / Path(file).name if target.is_dir() else target)
    print(f"{len(files)} files pushed, 0 skipped. 31.2 MB/s")
    return 0


def main(arguments: list[str]) -> int:
    if arguments[0] == "devices":
        print("List of devices attached\n" + (PHONE / "states").read_text())
        return 0
    flag, serial, command, *rest = arguments
    assert flag == "-s"
    if f"{serial}\tdevice" not in (PHONE / "states").read_text():
        print(f"adb: device '{serial}' not found", file=sys.stderr)
        return 1
    return shell(*rest) if command == "shell" else push(rest[:-1], rest[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
