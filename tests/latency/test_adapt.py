"""A known device's predictor moved to another by a few measurements."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, Command
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo import latency
from spaceevo.app.ahead import check_config
from spaceevo.app.artifacts import Folders, input_hashes
from spaceevo.app.config import compose
from spaceevo.errors import UserError
from spaceevo.latency.adapt import LEAST, adapted, read_rows
from spaceevo.latency.predictor import Predictor
from spaceevo.provenance import sha256
from spaceevo.space import Hyperspace, SearchSpace, Subnet, load_hyperspace
from spaceevo.steps import STEPS

MOBILEW = load_hyperspace("mobilew")


def subnets(hs: Hyperspace, count: int, seed: int = 0) -> list[Subnet]:
    rng = np.random.default_rng(seed)
    return [Subnet.sample(SearchSpace.sample(hs, rng), rng) for _ in range(count)]


@pytest.fixture(scope="module")
def pixel4() -> Predictor:
    return latency.load("pixel4")


def test_a_file_that_has_changed_makes_the_predictor_anew(tmp_path: Path) -> None:
    """By what it holds, whatever it is called; another predictor's file too."""
    rows, other = tmp_path / "rows.csv", tmp_path / "other.json"
    rows.write_text("subnet,ms\n")
    asked = ["device=pixel4", "hyperspace=mobilew", "data=imagenet", f"run_dir={tmp_path / 'run'}", f"adapt={rows}"]
    step, cfg = STEPS["predictor"], compose("predictor", asked)
    before = input_hashes(step, cfg, Folders(cfg))
    assert before == {"adapt": sha256(rows)}
    rows.write_text("subnet,ms\nx,1\n")
    assert input_hashes(step, cfg, Folders(cfg)) == {"adapt": sha256(rows)} != before
    rows.unlink()
    with pytest.raises(UserError, match=r"^adapt=.*rows\.csv: no such file or folder$"):
        check_config([step], cfg)
    other.write_text("{}")
    cfg = compose("predictor", [*asked[:-1], f"device.predictor={other}"])
    assert input_hashes(step, cfg, Folders(cfg)) == {"device.predictor": sha256(other)}


@settings(max_examples=20)
@given(st.floats(0.05, 20), st.floats(0, 5))
def test_a_device_that_is_slower_by_a_factor_and_a_call_is_found(pixel4: Predictor, factor: float, call_ms: float) -> None:
    few, others = subnets(MOBILEW, 10), subnets(MOBILEW, 20, 1)
    truth = factor * pixel4.subnets_ms(few) + call_ms
    moved, scores = adapted(pixel4, list(zip(few, truth.tolist(), strict=True)))
    assert scores["median_error_pct"] < 0.01 and scores["within_5pct"] == 100
    np.testing.assert_allclose(moved.subnets_ms(others), factor * pixel4.subnets_ms(others) + call_ms, rtol=1e-4)
    for net in others[:3]:
        assert moved.subnet_ms(net) == pytest.approx(factor * pixel4.subnet_ms(net) + call_ms, rel=1e-4)


def test_what_each_row_is_predicted_from_does_not_hold_it(pixel4: Predictor) -> None:
    """One measurement that is twice what it should be: the others' fit is told to miss it."""
    few = subnets(MOBILEW, 10)
    ms = pixel4.subnets_ms(few)
    ms[3] *= 2
    moved, scores = adapted(pixel4, list(zip(few, ms.tolist(), strict=True)))
    assert scores["within_10pct"] <= 90 and moved.interval is not None and moved.interval[1] > 1.5


def test_a_file_is_read_as_csv_parquet_and_profile(tmp_path: Path) -> None:
    nets = subnets(MOBILEW, 6)
    frame = pd.DataFrame(dict(subnet=[f"{net.space}:{net}" for net in nets], ms=np.arange(1.0, 7)))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    profiled = frame.rename(columns={"subnet": "spec"}).assign(kind="subnet", precision="int8", name="x")
    more = pd.concat([profiled, profiled.assign(precision="fp32"), profiled.assign(kind="block", spec="0:0:8:8:3#8#None")])
    more.to_parquet(tmp_path / "kernels.parquet")
    expected = list(zip(nets, np.arange(1.0, 7), strict=True))
    for name in ("rows.csv", "rows.parquet", "kernels.parquet"):
        assert read_rows(tmp_path / name, MOBILEW) == expected


def test_bad_rows_are_told_with_file_row_and_field(tmp_path: Path) -> None:
    good = [f"{net.space}:{net}" for net in subnets(MOBILEW, LEAST)]
    path = tmp_path / "rows.csv"

    def refused(subnets: list[str], ms: list[object], told: str, column: str = "ms") -> None:
        pd.DataFrame({"subnet": subnets, column: ms}).to_csv(path, index=False)
        with pytest.raises(UserError, match=told) as error:
            read_rows(path, MOBILEW)
        assert "\n" not in str(error.value) and str(path) in str(error.value)

    ms: list[object] = [1.0, 2.0, 3.0, 4.0, 5.0]
    refused(good[:4], ms[:4], f"4 different subnets; it takes {LEAST} or more")
    refused([good[0]] * 9, [1.0] * 9, "1 different subnets")
    refused(good, [*ms[:2], "fast", *ms[3:]], "row 3: ms=fast: must be a number more than 0")
    refused(good, [*ms[:4], -1.0], r"row 5: ms=-1\.0: must be a number more than 0")
    refused([*good[:1], "nonsense", *good[2:]], ms, "row 2: subnet: ")
    refused(good, ms, r"has no column ms; it needs subnet", column="seconds")
    with pytest.raises(UserError, match="not a CSV or Parquet file that can be read"):
        read_rows(tmp_path / "nothing.parquet", MOBILEW)


def test_the_command_moves_a_shipped_predictor(command: Command, tmp_path: Path, pixel4: Predictor) -> None:
    nets = subnets(MOBILEW, 10)
    ms = 3 * pixel4.subnets_ms(nets)
    pd.DataFrame(dict(subnet=[f"{net.space}:{net}" for net in nets], ms=ms)).to_csv(tmp_path / "rows.csv", index=False)
    asked = ["device=pixel4", "hyperspace=mobilew", "data=imagenet", "run_dir=run"]
    done = command("predictor", *asked, "adapt=rows.csv")
    assert done.returncode == 0, done.stderr
    assert "the other device takes 3 times as long" in done.stdout and "median error 0.0 %" in done.stdout
    told = json.loads((tmp_path / "run/latency/predictor.json").read_text())
    assert told["adapted_to"] == "rows.csv" and told["scores"]["n"] == 10
    moved = latency.load(str(tmp_path / "run/latency/predictor.json"))
    np.testing.assert_allclose(moved.subnets_ms(nets), ms, rtol=1e-3)
    done = command("predictor", *TINY, "run_dir=run2", "adapt=missing.csv")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
