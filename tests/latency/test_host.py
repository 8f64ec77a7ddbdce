"""What the host is said to be, and the bits of a weight that follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spaceevo.errors import UserError
from spaceevo.latency import host
from spaceevo.latency.host import FLAGS, describe, flags, versions, weight_bits

CASCADE_LAKE = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu sse avx2 avx512f avx512_vnni\nvmx flags\t: vnmi\n"
ALDER_LAKE = "flags\t\t: fpu avx2 avx_vnni\n"
HASWELL = "model name\t: avx512_vnni in a name\nflags\t\t: fpu avx2 fma\nbugs\t\t: avx_vnni\n"
CORTEX = "Features\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CASCADE_LAKE, ["avx2", "avx512f", "avx512_vnni"]),
        (ALDER_LAKE, ["avx2", "avx_vnni"]),
        (HASWELL, ["avx2"]),
        (CORTEX, ["asimddp"]),
        ("", []),
    ],
)
def test_flags_are_read_from_the_flag_lines_only(text: str, found: list[str]) -> None:
    assert flags(text) == found


@pytest.mark.parametrize(
    ("setting", "text", "machine", "bits"),
    [
        ("auto", CASCADE_LAKE, "x86_64", 8),
        ("auto", ALDER_LAKE, "AMD64", 8),
        ("auto", HASWELL, "x86_64", 7),
        ("auto", "", "x86_64", 7),
        ("auto", CORTEX, "aarch64", 8),
        ("auto", "", "aarch64", 8),
        (7, CASCADE_LAKE, "x86_64", 7),
        ("7", CASCADE_LAKE, "x86_64", 7),
        (8, HASWELL, "x86_64", 8),
        ("8", HASWELL, "x86_64", 8),
    ],
)
def test_auto_is_8_bits_but_on_x86_without_vnni(setting: str | int, text: str, machine: str, bits: int) -> None:
    assert weight_bits(setting, text, machine) == bits


@pytest.mark.parametrize("setting", [4, "16", "eight", "", 7.5])
def test_other_bits_are_refused(setting: str | int) -> None:
    with pytest.raises(UserError) as error:
        weight_bits(setting, HASWELL, "x86_64")
    assert str(error.value) == f"device.weight_bits={setting}: must be auto, 7 or 8"


def test_this_host_is_described_in_plain_data() -> None:
    host = json.loads(json.dumps(describe()))
    assert host["cpu"] and host["cores"] >= 1 and host["ram_gib"] > 0 and host["system"]
    assert set(host["flags"]) <= set(FLAGS)
    assert weight_bits("auto") in (7, 8)
    assert {"python", "onnxruntime", "torch", "numpy"} <= set(versions())


def test_conditions_are_what_the_system_tells(tmp_path: Path) -> None:
    assert host.conditions(tmp_path) | {"load": 0.0} == {"governor": None, "celsius": None, "load": 0.0}
    for name, content in ((host.GOVERNOR, "powersave\n"), (host.THERMAL, "48500\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    told = host.conditions(tmp_path)
    assert (told["governor"], told["celsius"]) == ("powersave", 48.5) and told["load"] >= 0
    (tmp_path / host.THERMAL).write_text("hot")
    assert host.conditions(tmp_path)["celsius"] is None
