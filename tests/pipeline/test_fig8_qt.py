"""``python -m spaceevo.fig8_qt``: random spaces trained, the tau of their Q-T scores, and that it goes on after a kill."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TINY, Command, kill_when
from hypothesis import given
from hypothesis import strategies as st
from report.building import build
from scipy.stats import kendalltau

from spaceevo.app.artifacts import config_subset
from spaceevo.app.config import compose
from spaceevo.app.plan import needed_steps
from spaceevo.app.run import folder_of
from spaceevo.data import load_data
from spaceevo.errors import UserError
from spaceevo.evolution import QTScore
from spaceevo.latency.predictor import Predictor
from spaceevo.space import SearchSpace, Subnet, subnet_graph
from spaceevo.steps import STEPS, fig8_qt
from spaceevo.steps.fig8_qt import _best, _candidates, shorter, spread
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.scoring import tables_of
from spaceevo.training.checkpoint import load_supernet

SHORT = ("fig8_qt.supernet_epochs=2", "fig8_qt.supernet_images=128", "fig8_qt.qat_images=64")


def copied(tiny_run: Path, to: Path) -> Path:
    """What the step needs of the tiny run: the table and the predictor."""
    for pattern in ("run.yaml", "lut.parquet", "latency/*", "provenance/*"):
        for path in tiny_run.glob(pattern):
            (to / path.relative_to(tiny_run)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to / path.relative_to(tiny_run))
    return to


@pytest.fixture(scope="module")
def trained(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which the step ran, undisturbed."""
    from spaceevo.app.run import execute

    folder = copied(tiny_run, tmp_path_factory.mktemp("fig8") / "run")
    assert execute("fig8_qt", compose("fig8_qt", [*TINY, *SHORT, f"run_dir={folder}"]))
    return folder


def test_every_space_has_its_exact_score_and_a_best_subnet_within_each_limit(trained: Path) -> None:
    cfg, frame = compose("fig8_qt", [*TINY, f"run_dir={trained}"]), pd.read_parquet(trained / "fig8_qt.parquet")
    hs, limits = hyperspace(cfg), cfg.latency.limits_ms
    assert limits is not None and len(frame) == frame.space.nunique() == 4
    score = QTScore(
        tables_of(folder_of(STEPS["fig8_qt"], cfg), cfg)[0].whole,
        limits,
        cfg.search_space.draws,
        cfg.search_space.top,
        mode="exact",
    )
    predictor = Predictor.load(trained / "latency/predictor.json")
    for row in frame.itertuples():
        space = SearchSpace.parse(row.space, hs)
        assert row.score == pytest.approx(score(space))
        assert row.top1 == pytest.approx(np.mean([row.top1_0, row.top1_1]))
        for limit, text, ms in zip(limits, (row.subnet_0, row.subnet_1), (row.ms_0, row.ms_1), strict=True):
            assert predictor.graph_ms(subnet_graph(Subnet.parse(space, text))) == pytest.approx(ms) and ms <= limit


def test_tau_is_of_score_and_accuracy_and_told_with_its_interval(trained: Path) -> None:
    frame, found = pd.read_parquet(trained / "fig8_qt.parquet"), yaml.safe_load((trained / "fig8_qt.yaml").read_text())
    assert found["tau"] == pytest.approx(kendalltau(frame.score, frame.top1).statistic)
    assert found["low"] <= found["tau"] <= found["high"] and found["count"] == found["spaces"] == 4
    assert (found["supernet_images"], found["qat_images"]) == (128, 64)
    assert not (trained / "partial").exists()


@pytest.mark.slow
def test_killed_it_goes_on_within_the_space_and_ends_the_same(
    trained: Path, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    folder = copied(tiny_run, tmp_path / "run")
    line = [sys.executable, "-m", "spaceevo.fig8_qt", *TINY, *SHORT, f"run_dir={folder}"]
    first = pd.read_parquet(trained / "fig8_qt.parquet").space[0]
    for kept in (f"{first}/partial/supernet/last.ckpt", f"{first}/qat.ckpt"):
        killer = tmp_path / Path(kept).name
        killer.mkdir()
        kill_when(folder / "partial/fig8_qt" / kept, line, killer)
    done = command("fig8_qt", *TINY, *SHORT, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert f"supernet: up to date ({folder}/partial/fig8_qt/{first})" in done.stdout
    assert (folder / "fig8_qt.parquet").read_bytes() == (trained / "fig8_qt.parquet").read_bytes()
    assert (folder / "fig8_qt.yaml").read_bytes() == (trained / "fig8_qt.yaml").read_bytes()


def test_the_report_draws_it_where_it_is(trained: Path, tiny_run: Path, tmp_path: Path) -> None:
    build(trained, tmp_path)
    found = yaml.safe_load((trained / "fig8_qt.yaml").read_text())
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / "figures/fig8.png").exists() and "Whether the better space is better" in page
    assert f"{found['tau']:.2f} (95 %: ".replace("-", "\N{MINUS SIGN}") in page
    assert "Whether the better space is better" not in (tiny_run / "report.html").read_text()


def test_bad_input_is_a_line(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    few = command("fig8_qt", *TINY, "fig8_qt.spaces=3")
    assert (few.returncode, few.stderr) == (2, "error: fig8_qt.spaces=3: must be 4 or more\n")
    folder = copied(tiny_run, tmp_path / "run")
    (folder / "lut.parquet").unlink()
    none = command("fig8_qt", *TINY, f"run_dir={folder}")
    assert none.returncode == 2 and len(none.stderr.splitlines()) == 1
    assert "lut.parquet, which is missing; make it with `python -m spaceevo.lut " in none.stderr


def test_no_limit_that_a_space_cannot_keep(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hs, rng = hyperspace(compose("fig8_qt", TINY)), np.random.default_rng(0)
    predictor = Predictor.load(tiny_run / "latency/predictor.json")
    fastest = [predictor.graph_ms(subnet_graph(Subnet.smallest(SearchSpace.sample(hs, rng)))) for _ in range(50)]
    few = pytest.raises(UserError, match=r"^fig8_qt\.spaces=4: must be at most 0: so many of \d+ spaces of tiny have a subnet")
    with monkeypatch.context() as patch, few:
        patch.setattr(fig8_qt, "TRIES", 2)
        _candidates(hs, predictor, [1.0, min(fastest) / 10], 4, rng)
    some = _candidates(hs, predictor, [float(np.median(fastest)), 1.0], 2, rng)
    assert len(some) == len(set(some)) == 40


def test_a_larger_limit_is_no_worse_and_its_subnets_keep_it(tiny_run: Path, tmp_path: Path) -> None:
    cfg = compose("fig8_qt", [*TINY, f"run_dir={tiny_run}", f"out_dir={tmp_path}"])
    net, space = load_supernet(tiny_run / "qat.ckpt", hyperspace(cfg))
    predictor, rng = Predictor.load(tiny_run / "latency/predictor.json"), np.random.default_rng(0)
    ms = [predictor.graph_ms(subnet_graph(Subnet.sample(space, rng))) for _ in range(50)]
    limits = np.quantile(ms, [0.2, 0.5, 1.0]).tolist()
    for seed in range(6):
        best = _best(replace(cfg, seed=seed), space, net, predictor, limits, load_data(cfg.data), tmp_path / "known.json")
        top1 = [entry["top1"] for entry in best]
        assert top1 == sorted(top1) and all(entry["ms"] <= limit for entry, limit in zip(best, limits, strict=True))


@given(st.lists(st.integers(-50, 50), min_size=4, max_size=60), st.integers(0, 5))
def test_a_space_of_every_part_of_the_order_is_drawn(scores: list[int], seed: int) -> None:
    chosen = spread(list(map(float, scores)), 4, np.random.default_rng(seed))
    picked = [scores[i] for i in chosen]
    assert len(set(chosen)) == 4 and picked == sorted(picked)
    for part, score in zip(np.array_split(np.sort(scores), 4), picked, strict=True):
        assert part[0] <= score <= part[-1]


def test_spaces_are_trained_as_the_found_one_but_for_the_length() -> None:
    cfg = compose("fig8_qt", [*TINY, *SHORT])
    job = replace(cfg, **shorter(cfg, SearchSpace.parse("tiny-0120-1100", hyperspace(cfg)), Path(cfg.out_dir) / "own"))
    for name in ("supernet", "qat"):
        mine, theirs = config_subset(STEPS[name], cfg), config_subset(STEPS[name], job)
        assert {key for key in mine if mine[key] != theirs[key]} == {"space", f"{name}.epochs", f"{name}.images"}


def test_the_experiment_is_the_demo_s_pipeline_with_it() -> None:
    cfg, demo = compose("pipeline", ["experiment=fig8_qt"]), compose("pipeline", ["experiment=demo"])
    assert cfg.run_dir == demo.run_dir
    steps, before = ([step.name for step in needed_steps(some)] for some in (cfg, demo))
    assert steps == [*before[:-1], "fig8_qt", "report"]
    with pytest.raises(UserError, match=r"^also=lut: no such also; there are: baseline, fig8_qt, study_quantization, "):
        needed_steps(compose("pipeline", ["also=[lut]"]))


def test_its_record_tells_how_it_was_made(trained: Path) -> None:
    record = json.loads((trained / "provenance/fig8_qt.json").read_text())
    assert record["config"]["fig8_qt.supernet_images"] == 128 and record["split"] is not None
    assert set(record["inputs"]) == {"lut.parquet", "latency/predictor.json"}
