"""The hyperspace: what it refuses, in the words a user needs, and its plain data."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from spaceevo.app.help import group_options
from spaceevo.errors import UserError
from spaceevo.paths import conf_dir
from spaceevo.space import BlockChoice, Hyperspace, SearchSpace, load_hyperspace
from spaceevo.space.spec import FixedStage


def plain() -> dict[str, Any]:
    """The configs' own data of the tiny hyperspace."""
    parts = [yaml.safe_load((conf_dir() / group / "tiny.yaml").read_text()) for group in ("hyperspace", "blocks")]
    return {**parts[1], **parts[0]}


def changed(path: str, value: object) -> dict[str, Any]:
    """The tiny hyperspace with one value replaced; ``path`` as ``stages.0.window``."""
    data = copy.deepcopy(plain())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target: Any = data
    for key in parents:
        target = target[key]
    target[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("stages.0.window", 5, "hyperspace.stages.0.window=5: must be from 1 to 4, the length of the stage's width list"),
        ("stages.2.window", 0, "hyperspace.stages.2.window=0: must be from 1 to 4"),
        ("stages.1.stride", 3, "hyperspace.stages.1.stride=3: must be 1 or 2"),
        ("stages.1.widths", [8, 8, 16], "hyperspace.stages.1.widths=[8, 8, 16]: must be a rising list of positive numbers"),
        ("stages.1.widths", [24, 16, 8], "hyperspace.stages.1.widths=[24, 16, 8]: must be a rising"),
        ("stages.3.depths", [], "hyperspace.stages.3.depths=[]: must be a rising list of positive numbers"),
        ("stages.3.depths", [0, 1], "hyperspace.stages.3.depths=[0, 1]: must be a rising"),
        ("resolutions", [], "hyperspace.resolutions=[]: must be a rising list of positive numbers"),
        ("lut_resolutions", [16, 12], "hyperspace.lut_resolutions=[16, 12]: must be a rising"),
        ("stem.widths", [], "hyperspace.stem.widths=[]: must be a rising list of positive numbers"),
        ("stem.kernel", 4, "hyperspace.stem.kernel=4: must be odd and positive"),
        ("stem.act", "gelu", "hyperspace.stem.act=gelu: no such act; there are: relu, relu6, hswish, swish"),
        ("head.act", "tanh", "hyperspace.head.act=tanh: no such act; there are: relu, relu6, hswish, swish"),
        ("blocks.1.act", "elu", "blocks.1.act=elu: no such act; there are: relu, relu6, hswish, swish"),
        ("blocks.1.kernels", [3, 4], "blocks.1.kernels=4: must be odd and positive"),
        ("blocks.1.kernels", [-3], "blocks.1.kernels=-3: must be odd and positive"),
        ("blocks.0.kernels", [], "blocks.0.kernels="),
        (
            "blocks.1.type",
            "mbv9",
            "blocks.1.type=mbv9: no such type; there are: conv, basic, mbv1, mbv1_dual, mbv2, mbv3, mbv2_k3, mbv3_k3,",
        ),
        ("blocks.1.expands", [2, 0], "blocks.1.expands=[2, 0]: must be a list of expand ratios above 0"),
        ("blocks.1.expands", [], "blocks.1.expands=[]: must be a list of expand ratios"),
        ("blocks.0.expands", [2], "blocks.0.expands=[2]: must be absent: mbv1 has no expand ratio"),
        ("stages.0.types", [0, 3], "hyperspace.stages.0.types=[0, 3]: must be rising indices into the 3 block types, from 0"),
        ("stages.0.types", [], "hyperspace.stages.0.types=[]: must be rising indices"),
        ("blocks.1.type", "fused_mb_se", "hyperspace.stages.0.types=[0, 1, 2]: must be of different block types"),
        ("head.final_expand", [48, 48], "hyperspace.head.final_expand=[48, 48]: must be a rising list"),
        ("head.final_expand", 48, "hyperspace.head.final_expand=48: must be a list"),
        ("stem.depths", [1, 2], "hyperspace.stem.depths=[1, 2]: must be [1], or for a deep stem [1, 2] or [2]"),
    ],
)
def test_impossible_value_names_its_key_and_what_is_allowed(path: str, value: object, said: str) -> None:
    with pytest.raises(UserError) as error:
        Hyperspace.from_dict(changed(path, value))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("key", ["blocks", "stem", "stages", "head", "resolutions", "lut_resolutions"])
def test_missing_key_is_named(key: str) -> None:
    data = plain()
    del data[key]
    with pytest.raises(UserError, match=rf"hyperspace\.{key}: is missing"):
        Hyperspace.from_dict(data)


def test_stage0_is_checked_as_the_searched_blocks_are() -> None:
    block = {"type": "mbv2", "kernels": [2], "expands": [1], "act": "relu"}
    stage0 = {"block": block, "widths": [16], "depths": [1], "stride": 1}
    with pytest.raises(UserError, match=r"stage0\.block\.kernels=2: must be odd"):
        Hyperspace.from_dict({**plain(), "stage0": stage0})


@pytest.mark.parametrize("name", ["demo.conv", "demo", "demo.mobile", "tiny"])
@pytest.mark.parametrize("stage0", [None, FixedStage(BlockChoice("mbv2", (3,), (1.0,), "relu"), (16, 32), (1, 2), 1, False)])
def test_plain_data_reads_back(name: str, stage0: FixedStage | None) -> None:
    hs = replace(load_hyperspace(name).with_task(1, 10), stage0=stage0)
    assert hs.spaces > 0  # fills the cached property, which is no data
    data = yaml.safe_load(yaml.safe_dump(hs.to_dict()))
    assert "spaces" not in data and Hyperspace.from_dict(data) == hs


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("blocks", [], "blocks"),
        ("stages", [], "stages"),
        ("stages", None, "stages"),
        ("head", {"final_expand": [8], "act": "relu", "mix": 8}, "head"),
        ("head", {"act": "relu"}, "head"),
        ("head.final_expand", [0], "head.final_expand"),
        ("stem.stride", 0, "stem.stride"),
        ("stem.kernel", "three", "stem.kernel"),
        ("resolutions", ["large"], "resolutions"),
        (
            "stage0",
            {"block": {"type": "mbv1", "kernels": [3], "act": "relu"}, "widths": [], "depths": [1], "stride": 1},
            "stage0",
        ),
    ],
)
def test_impossible_value_is_refused(path: str, value: object, key: str) -> None:
    with pytest.raises(UserError, match=key):
        Hyperspace.from_dict(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("stem.pool", 2, "hyperspace.stem.pool: no such key; there are: widths, kernel, stride, act, depths, deep"),
        ("stages.0.width", [8], "hyperspace.stages.0.width: no such key; there are: widths, window, depths, stride, types,"),
        ("head.mix", 8, "hyperspace.head.mix: no such key; there are: final_expand, act, feature_mix"),
        ("blocks.0.expand", [2], "blocks.0.expand: no such key; there are: type, kernels, act, expands"),
        ("resolution", [16], "hyperspace.resolution: no such key; there are: name, blocks, stem, stages, head, resolutions,"),
        ("blocks.1.expands", [float("inf")], "blocks.1.expands=[inf]: must be a list of expand ratios above 0, at most 64"),
        ("blocks.1.expands", [float("nan")], "blocks.1.expands=[nan]: must be a list of expand ratios above 0"),
        ("blocks.1.expands", [True], "blocks.1.expands=[True]: must be a list of expand ratios above 0"),
        ("blocks.1.expands", [2, 2], "blocks.1.expands=[2, 2]: must be a list of expand ratios above 0, at most 64, without"),
        ("blocks.1.expands", 2, "blocks.1.expands=2: must be a list"),
        ("blocks.1.type", ["mbv1"], "blocks.1.type=['mbv1']: must be a text"),
        ("blocks.1.type", None, "blocks.1.type=None: must be a text"),
        ("blocks.1.act", ["relu"], "blocks.1.act=['relu']: must be a text"),
        ("blocks.1.kernels", [99], "blocks.1.kernels=99: must be odd and positive, at most 16, the largest resolution"),
        ("stem.kernel", 17, "hyperspace.stem.kernel=17: must be odd and positive, at most 16"),
        ("stem.deep", "no", "hyperspace.stem.deep=no: must be true or false"),
        ("stem.act", None, "hyperspace.stem.act=None: must be a text"),
        ("stages.0.one_width", 1, "hyperspace.stages.0.one_width=1: must be true or false"),
        ("stages.0.forced_residual", "yes", "hyperspace.stages.0.forced_residual=yes: must be true or false"),
        ("stages.0.stride", 1.0, "hyperspace.stages.0.stride=1.0: must be a whole number"),
        ("channels", 0, "hyperspace.channels=0: must be 1 or more"),
        ("classes", -1, "hyperspace.classes=-1: must be 1 or more"),
        ("channels", "three", "hyperspace.channels=three: must be a whole number"),
        ("name", None, "hyperspace.name=None: must be a text"),
        ("device", ["host"], "hyperspace.device=['host']: must be a text"),
        ("blocks", {"a": 1}, "hyperspace.blocks={'a': 1}: must be a list"),
        ("blocks", ["mbv1"], "blocks.0=mbv1: must be keys with values"),
    ],
)
def test_a_file_of_one_s_own_is_checked_as_the_command_line_is(path: str, value: object, said: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(UserError) as error:
        load_hyperspace(str(own))
    assert str(error.value).startswith(f"{own}: {said}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: own\nstem: {widths: [8, 16]\nstages: 3\n", ":3: not YAML (expected ',' or '}'"),
        (b"name: own\n\tstem: 3\n", ":2: not YAML (found character '\\t' that cannot start any token)"),
        (b"name: own\nname2: @x\n", ":2: not YAML (found character '@' that cannot start any token)"),
        (b"name: \xff\xfe\n", ": not YAML ("),
        (b"name: \x00\n", ": not YAML ("),
    ],
)
def test_broken_yaml_is_named_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_hyperspace(str(own))
    assert str(error.value).startswith(f"{own}{said}") and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["name: [1", "[1]", ""])
def test_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_hyperspace(str(path))


def test_hyperspace_of_a_file_is_the_one_of_the_configs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(plain()))
    assert load_hyperspace(str(path)) == load_hyperspace("tiny")
    with pytest.raises(UserError, match=r"absent\.yaml: No such file"):
        load_hyperspace(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", f"hyperspace=nope: no such hyperspace; there are: {', '.join(group_options('hyperspace'))}"),
        ("demo.nope", f"blocks=nope: no such blocks; there are: {', '.join(group_options('blocks'))}"),
    ],
)
def test_unknown_name_lists_the_known(name: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_hyperspace(name)
    assert str(error.value) == said


def test_windows_are_all_consecutive_widths() -> None:
    stage = load_hyperspace("small").stages[2]
    assert [stage.window_widths(i) for i in range(stage.windows)] == [(24, 32), (32, 40), (40, 48)]


def test_spaces_counts_every_space_once() -> None:
    hs = load_hyperspace("tiny")
    spaces = {str(space) for space in SearchSpace.all(hs)}
    assert len(spaces) == hs.spaces == (3 * 3) ** 4


def test_task_changes_nothing_else() -> None:
    hs = load_hyperspace("tiny")
    task = hs.with_task(1, 10)
    assert (task.channels, task.classes) == (1, 10)
    assert task.with_task(hs.channels, hs.classes) == hs


def test_a_hyperspace_is_loaded_for_the_images_that_it_is_for() -> None:
    demo = load_hyperspace("demo", channels=1, classes=10)
    assert demo == load_hyperspace("demo").with_task(1, 10) and (demo.channels, demo.classes) == (1, 10)
    assert load_hyperspace("demo", classes=5).channels == load_hyperspace("demo").channels == 3
