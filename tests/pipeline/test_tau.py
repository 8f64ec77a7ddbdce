"""``python -m spaceevo.tau``: how well the table orders subnets of the trained supernet, which the search begins with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TINY, Command
from scipy.stats import kendalltau

from spaceevo.app.config import compose
from spaceevo.app.run import folder_of
from spaceevo.data import load_data, normalize
from spaceevo.errors import UserError
from spaceevo.evolution import GeneCode
from spaceevo.evolution.nsr_sums import NsrSums
from spaceevo.space import SearchSpace, Subnet
from spaceevo.steps.common import quantizer
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.tau import TRUSTED, random_subnets, taus_of, warnings
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.subnets import SubnetEvaluator


@pytest.fixture
def frame(tiny_run: Path) -> pd.DataFrame:
    return pd.read_parquet(tiny_run / "tau.parquet")


def test_its_subnets_are_of_every_resolution_and_judged_as_the_search_judges(tiny_run: Path, frame: pd.DataFrame) -> None:
    cfg = compose("tau", [*TINY, f"run_dir={tiny_run}"])
    assert len(frame) == frame.subnet.nunique() == cfg.tau.subnets
    assert frame.resolution.value_counts().to_dict() == {12: 6, 16: 6}
    net, space = load_supernet(tiny_run / "qat.ckpt", hyperspace(cfg))
    images, few = load_data(cfg.data), slice(cfg.search_subnet.validation_images)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    validation = normalize(images.val[few], cfg.data), images.val_labels[few]
    subnets = [Subnet.parse(space, text) for text in frame.subnet]
    top1, loss = zip(*SubnetEvaluator(net, quantizer(cfg), calibration, *validation).seen(subnets), strict=True)
    assert frame.top1_search.tolist() == pytest.approx(top1) and frame.loss_search.tolist() == pytest.approx(loss)
    proxy, genes = NsrSums(code := GeneCode(space), pd.read_parquet(tiny_run / "lut.parquet")), code.encode(subnets)
    np.testing.assert_allclose(frame.nsr, proxy(genes))
    np.testing.assert_allclose(frame[[f"nsr_{i}" for i in (1, 2, 3, 4)]], proxy.stages(genes))


def test_taus_are_of_all_and_of_each_resolution(tiny_run: Path, frame: pd.DataFrame) -> None:
    found = yaml.safe_load((tiny_run / "tau.yaml").read_text())
    assert [tau["resolution"] for tau in found["taus"]] == [None, 12, 16]
    for tau in found["taus"]:
        rows = frame if tau["resolution"] is None else frame[frame.resolution == tau["resolution"]]
        assert tau["count"] == len(rows)
        assert tau["tau"] == pytest.approx(kendalltau(rows.nsr, rows.loss_search).statistic)
        assert tau["top1"] == pytest.approx(kendalltau(-rows.nsr, rows.top1_search).statistic)
        assert tau["low"] <= tau["tau"] <= tau["high"]
        assert tau["fitted"] == pytest.approx(kendalltau(rows.loss_guessed, rows.loss_search).statistic)
        assert tau["fitted_top1"] == pytest.approx(kendalltau(-rows.loss_guessed, rows.top1_search).statistic)


def test_one_resolution_is_told_once(tiny_run: Path, frame: pd.DataFrame) -> None:
    cfg, rows = compose("tau", [*TINY, f"run_dir={tiny_run}"]), frame[frame.resolution == 12]
    (tau,) = taus_of(cfg, rows)
    assert tau["resolution"] is None and tau["count"] == len(rows)


def test_the_search_begins_with_them_at_no_cost(tiny_run: Path, frame: pd.DataFrame) -> None:
    searched = pd.read_parquet(tiny_run / "subnets.parquet").set_index("subnet")
    begun = searched[searched.generation == 0]
    assert set(frame.subnet) <= set(begun.index)  # all keep the limits
    for told in ("top1_search", "loss_search"):
        assert searched[told][frame.subnet].tolist() == frame[told].tolist()
    assert len(begun) <= len(frame) + 3  # the largest of two resolutions, the cheapest, and none drawn beside


def test_it_says_a_line_a_tau_and_what_raises_a_low_one(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    done = command("tau", *TINY, "tau.subnets=24", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^tau: (\d+) random subnets of (.*): .* agree to -?\d\.\d\d \(95 %: .* to .*\)", done.stdout, re.M)
    assert lines == [("24", "all resolutions"), ("12", "12 pixels"), ("12", "16 pixels")]
    taus = yaml.safe_load((folder / "tau.yaml").read_text())["taus"]
    assert ("not to be trusted" in done.stdout) == any(tau["tau"] < TRUSTED for tau in taus)


def test_a_low_tau_is_warned_of_where_there_are_enough_subnets() -> None:
    cfg = compose("tau", ["experiment=tiny", "bkd.targets=own"])
    taus = [dict(resolution=r, count=n, tau=t) for r, n, t in ((None, 30, 0.5), (12, 21, 0.1), (16, 9, 0.1), (20, 30, None))]
    (line,) = warnings(cfg, taus)
    assert "at 12 pixels: " in line and "16 pixels" not in line and "20 pixels" not in line
    assert line.endswith("try bkd.targets=full, bkd.images=512, tabulate.samples=6")
    assert warnings(cfg, taus[:1]) == []
    (line,) = warnings(compose("tau", ["experiment=tiny", "bkd.images=null"]), taus)
    assert "try bkd.epochs=2" in line


@pytest.mark.parametrize("count", [1, 9, -3])
def test_fewer_subnets_than_a_tau_needs_are_refused_in_a_line(count: int, command: Command) -> None:
    done = command("tau", *TINY, f"tau.subnets={count}")
    assert done.returncode == 2
    assert done.stderr == f"error: tau.subnets={count}: must be 10 or more, which a tau needs, or 0 for none\n"


def test_none_measured_is_a_search_from_random_subnets(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    done = command("search_subnet", *TINY, "tau.subnets=0", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert "tau.parquet" not in json.loads((folder / "provenance/search_subnet.json").read_text())["inputs"]
    frame = pd.read_parquet(folder / "subnets.parquet")
    assert (frame.generation == 0).sum() <= compose("tau", TINY).search_subnet.population
    refused = command("tau", *TINY, "tau.subnets=0", f"run_dir={folder}")
    assert refused.returncode == 2
    assert refused.stderr == "error: tau.subnets=0: must be 10 or more, which a tau needs\n"


def test_no_tau_of_the_table_is_needed_where_the_table_is_not_the_run_s() -> None:
    from spaceevo.app.plan import needed_steps

    for more in ("lut=table", "space=tiny-0120-1100", "search_subnet.quality=lut", "tau.subnets=0"):
        assert "tau" not in [step.name for step in needed_steps(compose("pipeline", ["experiment=tiny", more]))]


def test_random_subnets_are_different_and_the_same_for_a_seed() -> None:
    code = GeneCode(SearchSpace.parse("tiny-0000-0000", hyperspace(compose("tau", TINY))))
    every = random_subnets(code, 1000, 0)
    assert len(np.unique(every, axis=0)) == len(every) <= code.space.subnets
    np.testing.assert_array_equal(random_subnets(code, 20, 1), random_subnets(code, 20, 1))
    assert (random_subnets(code, 20, 1) != random_subnets(code, 20, 2)).any()


def test_a_space_of_too_few_subnets_is_named(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spaceevo.steps import tau

    cfg = compose("tau", [*TINY, f"run_dir={tiny_run}", f"out_dir={tmp_path}"])
    draw = tau.random_subnets
    monkeypatch.setattr(tau, "random_subnets", lambda code, count, seed: draw(code, 8, seed))
    with pytest.raises(UserError, match=r"^tau\.subnets=12: tiny-\S+ has 8 subnets, a tau needs 10; give tau\.subnets=0$"):
        tau.run(folder_of(tau.STEP, cfg), cfg)
