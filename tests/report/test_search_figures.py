"""The figures of the searches show what the tables hold, for one run, two runs and a sweep."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from report.building import SHOWN, build

from spaceevo.app.config import compose
from spaceevo.app.summary import Job, write_summary
from spaceevo.evolution import Table
from spaceevo.report import search_figures
from spaceevo.report.data import Cloud, best_spaces, cloud, load_run
from spaceevo.report.figures import accuracy
from spaceevo.space import SearchSpace, load_hyperspace

HS = load_hyperspace("tiny")


def history(scores: list[float]) -> pd.DataFrame:
    """A search that tried different spaces with these scores."""
    texts = [str(space) for space in itertools.islice(SearchSpace.all(HS), len(scores))]
    mutation = ["random"] * 3 + ["type", "width"] * len(scores)
    return pd.DataFrame(dict(birth=range(len(scores)), mutation=mutation[: len(scores)], space=texts, score=scores))


def line(drawing: object, gid: str) -> np.ndarray:
    """The points of a series, ``[N, 2]``."""
    axes = drawing.figure.axes  # type: ignore[attr-defined]
    (found,) = [series for ax in axes for series in ax.lines if series.get_gid() == gid]
    return np.column_stack(found.get_data())


def test_evolution_shows_the_spread_of_the_living() -> None:
    scores = np.random.default_rng(0).normal(size=40).tolist()
    drawing = search_figures.evolution(history(scores), population=10)
    living = [scores[max(0, birth - 9) : birth + 1] for birth in range(40)]
    np.testing.assert_allclose(line(drawing, "qt-median")[:, 1], [np.median(some) for some in living])
    np.testing.assert_allclose(line(drawing, "qt-best")[:, 1], np.maximum.accumulate(scores))
    (band,) = drawing.figure.axes[0].collections
    corners = {(float(x), round(float(y), 9)) for x, y in band.get_paths()[0].vertices}
    for birth, some in enumerate(living):
        for quantile in (0.1, 0.9):
            assert (float(birth), round(float(np.quantile(some, quantile)), 9)) in corners


def test_best_spaces_are_the_best_different_ones() -> None:
    tried = history([1.0, 5.0, 3.0, 4.0])
    tried = pd.concat([tried, tried])  # all of them tried twice
    assert [str(space) for space in best_spaces(tried, HS, 0.5)] == tried.space.iloc[[1, 3]].tolist()
    assert len(best_spaces(tried, HS)) == 1


def test_cloud_is_of_the_tables_rows_and_marks_the_best_within_each_limit() -> None:
    keys = [*itertools.product(range(4), range(3), range(3), (12, 16))]
    ms = {key: 10.0 ** (key[0] + 1) * np.array([1, 2]) for key in keys}  # the digits tell which row of a stage was drawn
    nsr = {key: key[1] + np.array([0.0, 0.1]) for key in keys}
    space = SearchSpace.parse("tiny-2010-0000", HS)
    points = cloud(Table(HS, (12, 16), nsr, ms, {12: 1.0, 16: 2.0}), [space], 500, 0)
    digits = np.array([[int(d) for d in str(int(ms))] for ms in points.ms])
    assert set(digits[:, -1]) == {1, 2} and {tuple(d) for d in digits[:, :-1]} == set(itertools.product((1, 2), repeat=4))
    np.testing.assert_allclose(points.nsr, 2 + 0 + 1 + 0 + 0.1 * (digits[:, :-1] - 1).sum(1))

    found = Cloud(np.arange(1.0, 11), np.arange(10.0, 0, -1))
    drawing = search_figures.cloud(found, found, [4.5, 8.5, 1000.0], top=2)
    assert sorted(line(drawing, "cloud-best")[:, 0]) == [3, 4, 7, 8, 9, 10]
    assert len(line(drawing, "cloud-space")) == 10


def test_front_is_shown_as_judged_and_the_chosen_as_finished(tiny_run: Path) -> None:
    data = load_run([tiny_run], SHOWN)
    assert data.pareto is not None and data.subnets is not None
    cards = [
        card | dict(top1_val=card["top1_val"] - 0.125) for card in data.cards
    ]  # other than inherited, whatever finishing gave
    drawing = accuracy(cards, data.subnets)
    for gid, entries in (("accuracy-front", data.pareto["front"]), ("accuracy-chosen", cards)):
        points = {(entry["predicted_ms"], entry["top1_val"]) for entry in entries}
        assert {(float(x), float(y)) for x, y in line(drawing, gid)} == points
    assert line(drawing, "accuracy-search")[:, 1].tolist() == data.subnets.top1_search.tolist()


def test_preferences_are_the_shares_of_the_spaces() -> None:
    spaces = [SearchSpace.parse(f"tiny-{t}000-{w}210", HS) for t, w in ((2, 0), (2, 1), (1, 2), (2, 2))]
    drawing = search_figures.block_preferences({"host": spaces, "other": spaces[:1]})
    (first,) = [c for c in drawing.figure.axes[0].collections if c.get_gid() == "prefers-host-stage1"]
    names = [block.type for block in HS.blocks]
    area = dict(zip((names[int(x)] for x, _ in first.get_offsets()), first.get_sizes(), strict=True))
    assert area[HS.blocks[2].type] == pytest.approx(3 * area[HS.blocks[1].type])
    widths = search_figures.width_preferences({"host": spaces, "other": spaces[:1]})
    np.testing.assert_allclose(line(widths, "widths-host")[:, 0], [1.25 / 2, 1, 0.5, 0])
    np.testing.assert_allclose(line(widths, "widths-other")[:, 0], [0, 1, 0.5, 0])


def test_two_runs_preferences_stand_side_by_side(tiny_run: Path, tmp_path: Path) -> None:
    build(tiny_run, tmp_path, compare=[tiny_run])
    page = (tmp_path / "report.html").read_text()
    assert "host (1 space)" in page and f"{tiny_run} (1 space)" in page


def sweep_jobs(tiny_run: Path) -> list[Job]:
    """A sweep over the tiny run itself and a job that failed."""
    config = compose("search_space", [*TINY, f"run_dir={tiny_run}"])
    return [
        Job({"latency": "tight", "seed": "0"}, (), tiny_run, config, "up to date"),
        Job({"latency": "tiny", "seed": "0"}, (), tiny_run, None, "failed", "latency=<b>: no"),
    ]


@pytest.mark.parametrize("entrypoint", ["search_space", "search_subnet", "pipeline", "lut"])
def test_summary_of_a_sweep_has_the_jobs_results(entrypoint: str, tiny_run: Path, tmp_path: Path) -> None:
    said = write_summary(entrypoint, sweep_jobs(tiny_run), tmp_path)
    frame = pd.read_parquet(tmp_path / "sweep.parquet")
    assert frame.state.tolist() == ["up to date", "failed"] and frame.wall_s[0] > 0 and np.isnan(frame.wall_s[1])
    data = load_run([tiny_run], SHOWN)
    assert data.search is not None and data.pareto is not None
    columns = {
        "search_space": dict(space=data.search["space"], score=data.search["score"]),
        "search_subnet": dict(hypervolume=data.pareto["hypervolume"], front=len(data.pareto["front"])),
        "pipeline": dict(top1=data.cards[-1]["top1_runtime"], models=2),
        "lut": {},
    }
    for key, value in columns[entrypoint].items():
        assert frame[key][0] == value
    page = (tmp_path / "sweep.html").read_text()
    assert "<b>" not in page and "latency=&lt;b&gt;: no" in page and str(tmp_path / "sweep.html") in said
    for name in ("outcomes", "types", "widths"):
        drawn = name == "outcomes" or entrypoint in ("search_space", "pipeline")
        assert (f'id="figure-{name}"' in page) == (tmp_path / f"sweep-{name}.png").exists() == drawn
