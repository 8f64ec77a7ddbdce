"""``python -m spaceevo.search_space lut=...``: someone else's table, without a run's predictor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import Command
from evolution.tables import write_folder

from spaceevo.app.config import compose
from spaceevo.errors import UserError
from spaceevo.evolution import load_table

SMALL = ("hyperspace=tiny", "name=other", "latency.limits_ms=[0.2,0.5]", "trainer.progress_bar=false")
QUICK = ("search_space.population=20", "search_space.sample=5", "search_space.evaluations=60", "search_space.draws=200")


@pytest.fixture
def lut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"lut={write_folder(tmp_path / 'lut')}"


def test_table_of_ones_own_is_searched_in_a_run_folder_of_its_own(command: Command, lut: str, tmp_path: Path) -> None:
    done = command("search_space", lut, *SMALL, *QUICK)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "other"
    found = yaml.safe_load((run / "space.yaml").read_text())
    history = pd.read_parquet(run / "search_space.parquet")
    assert len(history) == 60 and found["space"] == history.space[history.score.idxmax()]
    assert found["limits_ms"] == [0.2, 0.5] and found["score"] == pytest.approx(sum(found["per_limit"]))
    assert -1 <= found["halves_tau"] <= 1
    assert f"alike to a Kendall's tau of {found['halves_tau']:.3f}" in done.stdout
    record = json.loads((run / "provenance" / "search_space.json").read_text())
    assert list(record["inputs"]) == ["lut"]
    assert "up to date" in command("search_space", lut, *SMALL, *QUICK).stdout
    write_folder(tmp_path / "lut", seed=1)
    assert "up to date" not in command("search_space", lut, *SMALL, *QUICK).stdout
    changed = json.loads((run / "provenance" / "search_space.json").read_text())
    assert changed["inputs"] != record["inputs"]


def test_quantiles_are_of_the_table_s_own_subnets(command: Command, lut: str, tmp_path: Path) -> None:
    done = command("search_space", lut, "hyperspace=tiny", "latency=loose", "name=loose", "trainer.progress_bar=false", *QUICK)
    assert done.returncode == 0, done.stderr
    limits = yaml.safe_load((tmp_path / "runs" / "loose" / "space.yaml").read_text())["limits_ms"]
    table = load_table(lut.removeprefix("lut="), "tiny")
    slowest = sum(max(float(ms.max()) for key, ms in table.ms.items() if key[0] == stage) for stage in range(4))
    assert table.fastest_ms() < limits[0] < limits[1] < slowest + max(table.fixed_ms.values())


@pytest.mark.parametrize(("limits", "told"), [("[200,900]", ("[900]", "[200, 900]")), ("[0.2,3]", ())])
def test_limits_in_another_unit_are_told(limits: str, told: tuple[str, ...], command: Command, lut: str) -> None:
    table = load_table(lut.removeprefix("lut="), "tiny")
    assert table.fastest_ms() < table.slowest_ms() < 8
    done = command("search_space", lut, *SMALL[:2], f"latency.limits_ms={limits}", *QUICK, SMALL[3])
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "limits are in milliseconds" in line]
    assert len(lines) == bool(told)
    assert not told or any(f"latency.limits_ms={which}: the slowest subnet takes" in lines[0] for which in told)


def test_a_limit_that_does_not_bind_is_told(command: Command, lut: str, tmp_path: Path) -> None:
    more = ("latency.limits_ms=[0.12,1000]", "search_space.mode=exact")
    done = command("search_space", lut, *SMALL[:2], *more, *QUICK, SMALL[3])
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load((tmp_path / "runs" / "other" / "space.yaml").read_text())
    assert found["limits_bind"][1] is False and found["limits_bind_share"][1] == 0
    lines = re.findall(r"^search_space: ([\d.]+) ms does not bind: .*give a smaller one", done.stdout, re.M)
    assert lines == [f"{ms:g}" for ms, binds in zip((0.12, 1000), found["limits_bind"], strict=True) if not binds]
    assert found["limits_bind_share"][0] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sampled", "exact"])
def test_exhaustive_search_is_no_worse_than_evolution(command: Command, lut: str, tmp_path: Path, mode: str) -> None:
    scores = []
    for search in ("aging", "exhaustive", "random"):
        more = (f"search={search}", f"search_space.mode={mode}", f"name={search}")
        done = command("search_space", lut, *SMALL, *QUICK, *more)
        assert done.returncode == 0, done.stderr
        scores.append(yaml.safe_load((tmp_path / "runs" / search / "space.yaml").read_text())["score"])
    assert scores[1] == max(scores)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("device=pixel4",), "device=pixel4: hyperspace tiny and its table"),
        (("search_space.rows=model",), "search_space.rows=model: must be measured with lut=...: the model needs"),
        (("lut=nowhere",), "lut=nowhere: no such file or folder"),
    ],
)
def test_bad_input_gets_one_line(command: Command, lut: str, overrides: tuple[str, ...], message: str) -> None:
    given = [lut] if not overrides[0].startswith("lut=") else []
    done = command("search_space", *given, "hyperspace=tiny", "latency.limits_ms=[0.2,0.5]", *overrides)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search=best", "search_space.search=best: no such search; there are: aging, random, exhaustive"),
        ("search=exhaustive dimensions=op", "search_space.search=exhaustive: needs search_space.dimensions=both"),
        ("dimensions=op", "search_space.dimensions=op: needs search_space.base="),
        ("fitting=true", "search_space.fitting=true: needs search_space.mode=sampled"),
        ("rows=dense", "search_space.rows=dense: no such rows; there are: auto, model, measured"),
        ("top=6000", "search_space.top=6000: must be at most search_space.draws=5000"),
    ],
)
def test_impossible_search_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compose("search_space", [f"search_space.{each}" for each in override.split()])
