"""The runtimes that latencies are measured in: one name each everywhere, and one that is not installed is told in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import TINY

from spaceevo.app.config import compose
from spaceevo.app.run import execute
from spaceevo.deploy.runtimes import registry
from spaceevo.errors import UserError
from spaceevo.latency import config, host
from spaceevo.latency.machines.machine import HERE
from spaceevo.latency.runtimes.call import FILES, PACKAGES

NOT_HERE = r"openvino is not installed; for \w+ \w+: pip install openvino"


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "spaceevo.latency.runtimes.ov", raising=False)


def test_every_runtime_is_known_everywhere() -> None:
    assert tuple(registry.RUNTIMES) == tuple(FILES) == tuple(PACKAGES) == config.RUNTIMES
    assert set(PACKAGES.values()) <= set(host.RUNTIMES)
    assert [name for name, runtime in registry.RUNTIMES.items() if runtime.owns] == ["onnxruntime", "litert"]


@pytest.mark.parametrize("step", ["profile", "export"])
def test_a_runtime_that_is_not_installed_is_told_before_the_work(step: str, tmp_path: Path, without_openvino: None) -> None:
    from spaceevo.app.ahead import check_machine
    from spaceevo.steps import STEPS

    cfg = compose(step, [*TINY, f"run_dir={tmp_path}", "runtime=openvino"])
    with pytest.raises(UserError, match=f"^{NOT_HERE}$"):
        check_machine([STEPS[step]], cfg)
    if step == "profile":
        with pytest.raises(UserError, match=f"^{NOT_HERE}$"):
            execute(step, cfg)
    check_machine([STEPS[step]], compose(step, [*TINY, f"run_dir={tmp_path}"]))  # nobody asked for it


def test_so_it_is_where_a_file_is_run_in_it(without_openvino: None) -> None:
    with pytest.raises(UserError, match=f"^{NOT_HERE}$"):
        registry.open_file(Path("model.onnx"), b"", runtime=registry.RUNTIMES["openvino"])
    with pytest.raises(UserError, match=f"^{NOT_HERE}$"):
        HERE.measure("openvino", {"a": b""}, 1, 1, 1)
