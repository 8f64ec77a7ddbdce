"""An emulated CPU as a machine: what it is asked and refuses, and why it cannot be set up, with a stand-in for qemu-user."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy.nets import random_net, smooth_images
from emulators import CRASH, WRONG, stand_in

from spaceevo.deploy.claims.emulated import IMAGES, emulated_rows, emulated_words, not_exact
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.inputs import AtSize, Shown
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.errors import UserError
from spaceevo.latency import host
from spaceevo.latency.machines.cpus import CPUS
from spaceevo.latency.machines.machine import emulated, machine_at
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, subnet_graph

Patch = pytest.MonkeyPatch
NET = subnet_graph(Subnet.smallest(SearchSpace.parse("tiny-0120-0000")))


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        ask()
    assert "\n" not in str(told.value)
    return str(told.value)


def tools(folder: Path, monkeypatch: Patch, **scripts: str) -> None:
    """Nothing else is found on the PATH."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_cpu_that_there_is_not_is_named() -> None:
    text = refused(machine_at("emulated:cortex-a67", "python3").facts)
    assert text.startswith("emulated=cortex-a67: no such CPU; there are: cortex-a76, cortex-a72, haswell (did you mean")


def test_what_linux_tells_of_a_cpu_is_its_own() -> None:
    flags = {name: host.flags(cpu.cpuinfo()) for name, cpu in CPUS.items()}
    assert flags == {"cortex-a76": ["asimddp"], "cortex-a72": [], "haswell": ["avx2"]}
    told = {name: dict(system=f"Linux {cpu.machine}", flags=flags[name]) for name, cpu in CPUS.items()}
    assert [name for name, facts in told.items() if host.saturates(facts)] == ["haswell"]
    assert CPUS["haswell"].cpuinfo().count("processor\t:") == os.cpu_count()


def test_where_it_cannot_be_set_up_it_is_said_why_and_nothing_is_left(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tools(tmp_path / "none", monkeypatch)
    text = refused(emulated("haswell").facts)
    assert text == "emulated:haswell: there is no apt-get here: an emulated CPU is set up from Debian's packages"
    says = 'echo "W: Failed to fetch http://x Could not resolve" >&2;; *) echo "E: No package" >&2; exit 100'
    update = f'case "$*" in *update) {says}; esac'
    tools(tmp_path / "offline", monkeypatch, apt_get=update, dpkg="echo amd64", dpkg_deb="exit 1")
    text = refused(emulated("haswell").facts)
    assert text == "emulated:haswell: apt-get install failed: W: Failed to fetch http://x Could not resolve"
    assert list((tmp_path / "cache/spaceevo/emulated").iterdir()) == []
    cached = tmp_path / "file"
    cached.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cached))
    assert "cannot be set up in" in refused(emulated("haswell").facts)


def test_what_was_set_up_for_other_runtimes_is_not_used(tmp_path: Path, monkeypatch: Patch) -> None:
    record = stand_in("haswell", tmp_path, monkeypatch) / "emulated.json"
    record.write_text(record.read_text().replace('"onnxruntime": "', '"onnxruntime": "0.'))
    tools(tmp_path / "none", monkeypatch)
    assert "there is no apt-get here" in refused(emulated("haswell").facts)


def test_it_gives_outputs_and_tells_what_it_is_but_no_times(tmp_path: Path, monkeypatch: Patch) -> None:
    folder, machine = stand_in("cortex-a76", tmp_path, monkeypatch), machine_at("emulated:cortex-a76", "python3")
    facts = machine.facts()
    assert facts["versions"] == host.versions() | {"qemu-user": "7.2.0"}
    assert "Cortex-A76, emulated" in (folder / "root/proc/cpuinfo").read_text()
    assert "not how long it takes" in refused(lambda: machine.measure("onnxruntime", {}, 1, 1, 1))
    assert "not how long it takes" in refused(lambda: machine.cold_ms("onnxruntime", {}, 1))
    assert not machine.timed
    assert "emulated:cortex-a76: InvalidProtobuf" in refused(lambda: machine.outputs("onnxruntime", b"none", np.zeros(1)))


def test_a_crash_there_is_one_line(tmp_path: Path, monkeypatch: Patch) -> None:
    stand_in("cortex-a76", tmp_path, monkeypatch, CRASH)
    assert refused(emulated("cortex-a76").facts) == "emulated:cortex-a76: Python there ended: qemu: uncaught signal 11"


def rows() -> list[dict[str, Any]]:
    """Of a model's files on an emulated Haswell, asked for twice."""
    net, stats = random_net(NET, quantizer=Quantizer(7))
    model = integer_model(net, NET, stats, Quantizer(7))
    images = smooth_images(IMAGES + 20, NET, seed=1)
    files = {"model.onnx": write_int8(model, batch=None), "model.tflite": write_tflite(model)}
    return emulated_rows(["haswell", "haswell"], files, model, Shown(images, AtSize(images, NET.input.hw)), 7)


def test_files_that_give_the_reference_s_integers_there_are_exact(tmp_path: Path, monkeypatch: Patch) -> None:
    stand_in("haswell", tmp_path, monkeypatch)
    found = rows()
    assert [(row["file"], row["images"], row["identical_integers"], row["max_difference"]) for row in found] == [
        ("model.onnx", IMAGES, 100, 0),
        ("model.tflite", IMAGES, 100, 0),
    ]
    assert found[0]["version"] == host.versions()["onnxruntime"] and found[0]["emulator"] == "qemu-user 7.2.0"
    assert not_exact(found) == []
    assert emulated_words(found) == "; emulated, 100 images: model.onnx exact on haswell, model.tflite exact on haswell"


def test_files_that_give_others_are_refused_but_for_weights_that_saturate(tmp_path: Path, monkeypatch: Patch) -> None:
    stand_in("haswell", tmp_path, monkeypatch, WRONG)
    found = rows()
    assert [text.split(" % ")[0] for text in not_exact(found)] == ["model.onnx gives 0.00", "model.tflite gives 0.00"]
    assert not_exact([row | {"saturates": True} for row in found]) == []
    assert "8-bit weights saturate" in emulated_words([row | {"saturates": True} for row in found])
