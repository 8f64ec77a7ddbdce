"""The config: every combination a user may choose composes, and hyperspaces come out of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from own_images import two_classes

from spaceevo.app.config import compose
from spaceevo.app.help import group_options
from spaceevo.errors import UserError
from spaceevo.space import SearchSpace, load_hyperspace
from spaceevo.steps.needs import hyperspace


@pytest.mark.parametrize(
    "group", ["stage", "device", "latency", "hyperspace", "blocks", "data", "teacher", "trainer", "logger"]
)
def test_every_option_composes(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    needs = {"digits": ["hyperspace=tiny"], "folder": ["hyperspace=tiny", f"data.root={two_classes(tmp_path / 'photos')}"]}
    for option in group_options(group):
        extra = needs.get(option, []) if group == "data" else []
        if group in ("hyperspace", "blocks"):  # a block list may need its own hyperspace, which says where it goes
            own = [f"hyperspace={option}"] if option in group_options("hyperspace") else []
            extra = [*own, "data=imagenet", "data.image_size=288"]
        assert compose("pipeline", [f"{group}={option}", *extra])


def test_a_hyperspace_larger_than_the_images_is_refused() -> None:
    with pytest.raises(UserError, match=r"hyperspace\.resolutions=\[160, .*: must be at most data\.image_size=28"):
        compose("train", ["hyperspace=mobilew"])


def test_demo_is_the_default() -> None:
    assert compose("pipeline", ["experiment=demo"]) == compose("train")


def test_another_runtime_is_asked_for_by_its_name() -> None:
    assert compose("profile").device.runtime == "onnxruntime"
    assert compose("profile", ["runtime=litert"]).device.runtime == "litert"
    with pytest.raises(UserError, match="runtime=litert: device=pixel4 is not here, and nothing is measured"):
        compose("profile", ["device=pixel4", "hyperspace=demo", "runtime=litert"])


def test_the_paper_s_subnet_search_is_the_same_by_either_name() -> None:
    sizes = [
        (search.population, search.parents, search.generations)
        for override in ("experiment=paper_vnni", "experiment=paper_pixel4", "subnet_search=paper")
        for search in [compose("pipeline", [override]).search_subnet]
    ]
    assert len(set(sizes)) == 1 and sizes[0][0] * (sizes[0][2] + 1) == 5000  # subnets a limit


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("profile.subnets=0", "profile.subnets=0: must be more than 0"),
        ("data.split_seed=-1", "data.split_seed=-1: must be 0 or more"),
        ("supernet.warmup=1", "supernet.warmup=1.0: must be less than 1"),
        ("qat.warmup=-0.1", "qat.warmup=-0.1: must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused_where_the_config_is_checked(override: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        compose("pipeline", ["experiment=tiny", override])
    assert str(error.value) == said


def test_hyperspace_brings_its_own_blocks_unless_told() -> None:
    assert hyperspace(compose("lut", ["hyperspace=tiny"])).name == "tiny"
    other = hyperspace(compose("lut", ["hyperspace=demo", "blocks=conv"]))
    assert other.name == "demo.conv" and len(other.blocks) == 4


def test_config_and_folder_agree_on_a_hyperspace() -> None:
    for name, overrides in (("demo", []), ("demo.mobile", ["blocks=mobile"]), ("tiny", ["experiment=tiny"])):
        configured = hyperspace(compose("lut", overrides))
        assert configured == load_hyperspace(name).with_task(1, 10)


def test_demo_and_tiny_hyperspaces_have_three_stages_and_windows_at_least() -> None:
    for name in ("demo", "tiny"):
        space = load_hyperspace(name)
        assert len(space.stages) >= 3 and all(stage.windows >= 3 for stage in space.stages)
        first = "".join("0" for _ in space.stages)
        assert str(SearchSpace.parse(f"{name}-{first}-{first}")) == f"{name}-{first}-{first}"


def test_up_to_date_path_imports_nothing_heavy() -> None:
    code = "import sys, spaceevo.app.cli, spaceevo.app.run, spaceevo.pipeline, spaceevo.train;"
    code += "print([m for m in ('torch', 'lightning', 'pandas', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
