"""A machine behind ssh: a real sshd on the loopback, a real ssh; what is measured there, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, Command
from processes import PATIENCE_S

from spaceevo.deploy.runtimes.registry import open_file, runtime_called, runtimes_in
from spaceevo.deploy.runtimes.timing import timing_writer
from spaceevo.errors import UserError
from spaceevo.latency import host
from spaceevo.latency.machines.machine import Machine, machine_at, machine_of
from spaceevo.latency.machines.ssh import Ssh
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, subnet_graph

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or os.geteuid() != 0, reason="needs root and Debian's openssh-server"
)
NET = Subnet.smallest(SearchSpace.parse("tiny-0120-0000"))
RUNTIMES = [runtime.name for runtime in runtimes_in(host.versions())]
#: With the packages that this process finds.
PYTHON = f"env PYTHONPATH={os.environ.get('PYTHONPATH', '')} {sys.executable}"


@dataclass(frozen=True)
class Server:
    """An sshd on a port of the loopback, and the folder of its keys; ``ssh`` on the PATH reads ``config`` there."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"

    def configured(self, key: str = "user", known: str = "known_hosts") -> None:
        """Use that key, and the hosts known in that file."""
        lines = [f"IdentityFile {self.folder / key}", f"UserKnownHostsFile {self.folder / known}", "IdentitiesOnly yes"]
        (self.folder / "config").write_text("\n".join([*lines, "GlobalKnownHostsFile /dev/null", "IdentityAgent none"]) + "\n")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sshd"), free_port())
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(server.folder / name)], check=True)
    shutil.copy(server.folder / "user.pub", server.folder / "authorized")
    held = (server.folder / "host.pub").read_text().split()
    (server.folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {held[0]} {held[1]}\n")
    (server.folder / "nobody").write_text("")
    (server.folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {server.folder}/config "$@"\n')
    (server.folder / "ssh").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "Port": server.port, "ListenAddress": "127.0.0.1", "HostKey": server.folder / "host", "PidFile": "none",
        "AuthorizedKeysFile": server.folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
    running = subprocess.Popen([str(SSHD), "-D", "-e", "-f", "/dev/null", *flags], stderr=subprocess.DEVNULL)
    until = time.time() + PATIENCE_S
    while time.time() < until:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", server.port)) == 0:
                break
        time.sleep(0.05)
    yield server
    running.kill()
    running.wait()


@pytest.fixture
def server(sshd: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    sshd.configured()
    monkeypatch.setenv("PATH", f"{sshd.folder}:{os.environ['PATH']}")
    return sshd


@pytest.fixture
def there(server: Server) -> Machine:
    return Machine(Ssh(server.address, PYTHON).ask)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The INT8 file of one tiny subnet for each runtime."""
    graph = subnet_graph(NET)
    return {runtime: timing_writer(Quantizer(7), "symmetric", runtime)(graph)[0] for runtime in RUNTIMES}


def test_it_tells_what_it_is(there: Machine) -> None:
    facts, here = there.facts(), host.facts()
    assert facts["host"] == here["host"] and facts["versions"] == here["versions"]
    assert set(facts["conditions"]) == {"governor", "celsius", "load"}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_files_are_timed_there_and_give_the_same_outputs(runtime: str, there: Machine, files: dict[str, bytes]) -> None:
    times = there.measure(runtime, {"a/b": files[runtime], "c": files[runtime]}, 2, 5, 1)
    assert list(times) == ["a/b", "c"]
    assert all(len(taken) >= 10 and np.all(taken > 0) and np.all(np.isfinite(taken)) for taken in times.values())
    assert there.cold_ms(runtime, {"c": files[runtime]}, 1)["c"] > 0
    images = np.random.default_rng(0).standard_normal((70, 3, NET.resolution, NET.resolution)).astype(np.float32)
    by = runtime_called(runtime)
    here = open_file(Path(by.int8), files[runtime], runtime=by)(images)
    np.testing.assert_array_equal(there.outputs(runtime, files[runtime], images), here)


def refused(ask: Callable[[], object], server: Server) -> str:
    with pytest.raises(UserError) as told:
        ask()
    text = str(told.value)
    assert "\n" not in text
    return text.replace(server.address, "<host>")


def test_a_machine_that_does_not_let_one_in(server: Server, there: Machine) -> None:
    server.configured(key="stranger")
    text = refused(there.facts, server)
    assert text == "device.host=<host>: root@127.0.0.1: Permission denied (publickey). (give it your key: `ssh-copy-id <host>`)"


def test_a_machine_whose_key_is_not_known(server: Server, there: Machine) -> None:
    server.configured(known="nobody")
    text = refused(there.facts, server)
    assert "Host key verification failed" in text and "connect once by hand, `ssh <host>`" in text


def test_a_machine_that_is_not_there(server: Server) -> None:
    nobody = f"ssh://root@127.0.0.1:{free_port()}"
    assert "Connection refused" in refused(Machine(Ssh(nobody, "python3").ask).facts, server)
    assert "Could not resolve" in refused(Machine(Ssh("nobody.invalid", "python3").ask).facts, server)
    assert "must be a host as ssh takes it" in refused(Machine(Ssh("-oProxyCommand=touch /tmp/x", "python3").ask).facts, server)


def test_what_is_missing_there_is_named(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    def by(python: str) -> Machine:
        return Machine(Ssh(server.address, python).ask)

    assert refused(by("python9").facts, server).startswith("device.host=<host>: no python9 there")
    assert "numpy is not there; pip install numpy" in refused(by(f"{sys.executable} -I -S").facts, server)
    other = tmp_path / "ai_edge_litert"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('libx.so: wrong ELF class: ELFCLASS32')")
    shadowed = by(f"env PYTHONPATH={tmp_path} {sys.executable}")
    text = refused(lambda: shadowed.measure("litert", {"a": files["litert"]}, 1, 1, 1), server)
    assert "ai-edge-litert cannot be loaded (libx.so: wrong ELF class: ELFCLASS32); for Linux" in text
    (other / "__init__.py").write_text("raise ModuleNotFoundError('no', name='ai_edge_litert')")
    text = refused(lambda: shadowed.measure("litert", {"a": files["litert"]}, 1, 1, 1), server)
    assert text.startswith("device.host=<host>: ai-edge-litert is not installed; for Linux")


def test_what_it_cannot_do_is_told(server: Server, there: Machine, files: dict[str, bytes]) -> None:
    text = refused(lambda: there.measure("onnxruntime", {"a": files["onnxruntime"]}, 1, 1, 4096), server)
    assert text.startswith("device.host=<host>: device.threads=4096: must be at most")
    assert "<host>: InvalidProtobuf" in refused(lambda: there.measure("onnxruntime", {"a": b"no model"}, 1, 1, 1), server)


def test_how_it_is_reached_is_checked() -> None:
    from spaceevo.app.config import compose

    with pytest.raises(UserError, match=r"device\.host=null: device\.at=ssh needs one"):
        machine_of(compose("profile", ["device=ssh"]).device)
    with pytest.raises(UserError, match=r"device\.weight_bits=auto: must be 7 or 8 for device\.at=ssh"):
        compose("profile", ["device=ssh", "device.weight_bits=auto"])
    for place in ("ssh", "ssh:", "pi", "adb:1"):
        with pytest.raises(UserError, match=r"must be here, ssh:<host>, .* or emulated:<cpu>"):
            machine_at(place, "python3")


def test_a_profile_is_taken_there_and_its_rows_brought_back(server: Server, command: Command, tmp_path: Path) -> None:
    asked = [*TINY, "device=ssh", f"device.host={server.address}", f"device.python={sys.executable}", "run_dir=run"]
    done = command("profile", *asked, "profile={blocks:3,subnets:2,rounds:1,runs:2}", "device.weight_bits=7")
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "run/latency/kernels.parquet")
    assert (frame.ms > 0).all() and {"int8", "fp32"} == set(frame.precision)
    told = json.loads((tmp_path / "run/latency/host.json").read_text())
    assert told["cpu"] == host.describe()["cpu"] and told["runtime"] == "onnxruntime" and "load" in told["after"]


@pytest.mark.slow
def test_a_card_is_verified_there(server: Server, command: Command, tiny_run: Path, tmp_path: Path) -> None:
    folder = sorted(tiny_run.glob("models/*/card.json"))[0].parent
    there = [f"on=ssh:{server.address}", f"python={sys.executable}"]
    done = command("verify", f"path={folder}", *there, f"out_dir={tmp_path}", "progress_bar=false")
    assert done.returncode == 0, done.stderr
    assert f"test images of digits, on ssh:{server.address}" in done.stdout
    told = json.loads((tmp_path / "verify.json").read_text())
    assert told["holds"] and told["host"] == host.describe()
    same = [claim["holds"] for claim in told["claims"] if claim["what"] == "outputs"]
    assert len(same) == 3 and all(same)  # bit for bit, of all three files
