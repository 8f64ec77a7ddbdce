"""A table tells of which hyperspace, images, teacher and device it was made, and whoever reads it compares."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Command
from evolution.tables import HS, write_folder

from spaceevo.app.artifacts import config_subset
from spaceevo.app.config import compose
from spaceevo.atomic import write_parquet
from spaceevo.errors import UserError
from spaceevo.evolution import Ends, load_table
from spaceevo.evolution.files import metadata_of, origin_of
from spaceevo.space import Hyperspace, load_hyperspace
from spaceevo.space.differences import described, hyperspace_sha256
from spaceevo.steps import STEPS
from spaceevo.steps.step import DATA

TINY = ("experiment=tiny", "latency.limits_ms=[0.2,0.5]", "trainer.progress_bar=false", "search_space.rows=measured")
DIGITS = HS.with_task(1, 10)


def write_lut(path: Path, hs: Hyperspace = DIGITS, told: bool = True, **changed: Any) -> Path:
    """A ``lut.parquet`` of ``hs``; ``told``: with its origin, some of it ``changed``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = load_table(write_folder(path.parent / f"{path.stem}-csv", hs), hs).rows
    assert rows is not None
    configs = ["_".join(f"{int(k)}#{int(w)}#{None if e != e else e}" for k, w, e in blocks if k) for blocks in rows.blocks]
    frame = pd.DataFrame(rows.key, columns=["stage", "type", "window", "resolution"]).assign(
        cin=rows.cin, hw=rows.hw, config=configs, nsr=rows.nsr, mmacs=rows.mmacs, params=rows.mparams * 1e6, ms=rows.ms
    )
    data = config_subset(replace(STEPS["lut"], keys=DATA), compose("lut", list(TINY)))
    origin = dict(hyperspace=described(hs), hyperspace_sha256=hyperspace_sha256(hs), split="", teacher="", device="host")
    origin = origin | dict(data=data) | changed
    ends = Ends(dict.fromkeys(hs.lut_resolutions, 0.01))
    return write_parquet(path, frame.assign(stage=frame.stage + 1), metadata_of(ends, origin if told else None))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def other(**changes: Any) -> Hyperspace:
    return replace(DIGITS, **changes)


@pytest.mark.parametrize(
    ("hs", "said"),
    [
        (other(blocks=(DIGITS.blocks[1], DIGITS.blocks[0], *DIGITS.blocks[2:])), "its hyperspace.blocks[0].act is relu, here"),
        (other(stem=replace(DIGITS.stem, act="hswish")), "its hyperspace.stem.act is "),
    ],
)
def test_a_table_of_another_hyperspace_is_refused_though_its_rows_would_do(hs: Hyperspace, said: str, tmp_path: Path) -> None:
    path = write_lut(tmp_path / "lut.parquet")
    with pytest.raises(UserError) as error:
        load_table(path, hs)
    assert str(error.value).startswith(f"{path}: a table of another hyperspace, tiny: {said}")
    load_table(path, replace(DIGITS, name="mine", device="elsewhere"))  # labels
    with pytest.raises(UserError, match=r"device=pixel4: the latencies of the table .* are of device=host"):
        load_table(path, DIGITS, "pixel4")


def test_a_table_of_before_is_compared_by_its_rows(tmp_path: Path) -> None:
    path = write_lut(tmp_path / "lut.parquet", told=False)
    assert origin_of(path) is None and load_table(path, DIGITS).rows is not None
    wider = tuple(replace(stage, widths=tuple(w + 8 for w in stage.widths)) for stage in DIGITS.stages)
    with pytest.raises(UserError, match=r"lut\.parquet: of another hyperspace: row \d+ \(stage 1 type \d window \d resolution"):
        load_table(path, other(stages=wider))
    with pytest.raises(UserError, match=r"lut\.parquet: of another hyperspace: row "):
        load_table(path, load_hyperspace("demo"))


@pytest.mark.parametrize(
    ("changed", "overrides", "said"),
    [
        ({}, ("blocks=small",), "a table of another hyperspace, tiny: its hyperspace.blocks"),
        ({}, ("data.validation=150",), "of other images: its data.validation is "),
        ({}, ("data.split_seed=5",), "of other images: its data.split_seed is 0, here it is 5"),
        ({"device": "pixel4"}, (), "device=host: the latencies of the table"),
    ],
)
def test_the_search_refuses_a_table_of_something_else(
    changed: dict[str, Any], overrides: tuple[str, ...], said: str, command: Command, tmp_path: Path
) -> None:
    path = write_lut(tmp_path / "given" / "lut.parquet", **changed)
    done = command("search_space", *TINY, f"lut={path}", "run_dir=run", *overrides)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert not (tmp_path / "run" / "space.yaml").exists()


def test_the_search_takes_a_table_of_the_same_and_says_what_it_cannot_compare(command: Command, tmp_path: Path) -> None:
    told, before = (write_lut(tmp_path / name / "lut.parquet", told=name == "told") for name in ("told", "before"))
    done = command("search_space", *TINY, f"lut={told}", "run_dir=told/run")
    assert done.returncode == 0 and "lut=" not in done.stdout, done.stderr
    done = command("search_space", *TINY, f"lut={before}", "run_dir=before/run")
    assert done.returncode == 0 and f"lut={before}: does not tell of which hyperspace, images" in done.stdout, done.stderr


def test_a_run_s_own_table_tells_its_origin(tiny_run: Path) -> None:
    origin = origin_of(tiny_run / "lut.parquet")
    record = json.loads((tiny_run / "provenance" / "lut.json").read_text())
    assert origin is not None and origin["split"] == record["split"] and origin["device"] == "host"
    assert origin["teacher"] == record["inputs"]["teacher.ckpt"] and origin["hyperspace_sha256"] == hyperspace_sha256(DIGITS)
    assert origin["data"]["data.name"] == "digits" and b"made_of" in pq.read_schema(tiny_run / "lut.parquet").metadata


def test_a_given_predictor_s_device_and_hyperspace_are_told(command: Command, tmp_path: Path) -> None:
    def given(predictor: str, *more: str) -> str:
        done = command("predictor", "experiment=tiny", "device=intel_vnni", f"device.predictor={predictor}", *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "fitted for" not in given("shipped", "run_dir=one") and "does not tell" not in given("shipped", "run_dir=two")
    made = "one/latency/predictor.json"
    assert "fitted for" not in given(made, "run_dir=three")
    assert f"{made}: fitted for device=intel_vnni, and used for mine" in given(made, "run_dir=four", "device.name=mine")
    assert f"{made}: fitted for hyperspace=tiny, and used for tiny.small" in given(made, "run_dir=five", "blocks=small")
    content = json.loads((tmp_path / made).read_text())
    old = {key: value for key, value in content.items() if key in ("unit", "scores", "coefficients")}
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert "old.json: does not tell for which device and hyperspace it was fitted" in given("old.json", "run_dir=six")
