"""``python -m spaceevo.baseline`` as a user runs it: networks that verify, figures that agree, nothing trained twice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY, Command, forked, kill_when
from hypothesis import given
from hypothesis import strategies as st

from spaceevo.app.config import compose
from spaceevo.app.run import execute, folder_of
from spaceevo.deploy.claims.card import REQUIRED
from spaceevo.deploy.claims.ran import ran
from spaceevo.deploy.runtimes.registry import runtimes_in
from spaceevo.errors import UserError
from spaceevo.latency.host import versions
from spaceevo.report.verdict import verdict, verdict_sums
from spaceevo.steps import STEPS
from spaceevo.steps.baseline import CLOSE, merged, searched_at, seconds_a_model
from spaceevo.training.checkpoint import load_checkpoint, save_checkpoint

#: Cards tell of all runtimes that are here, and the verdict is given in each.
HERE = [runtime.name for runtime in runtimes_in(versions())]
#: A network that is slower than the run's fastest subnets on any machine (0.5 has a sixtieth of its MMACs).
SMALL, LARGE = "plain4-x0.5", "plain4-x4"
#: Of small batches, since the pace of a step is measured over many.
KEYS = (*TINY, "baselines=[plain4]", "baseline.seconds=1", "baseline.batch=16")


def copied(tiny_run: Path, to: Path) -> Path:
    return Path(shutil.copytree(tiny_run, to, ignore=shutil.ignore_patterns("logs", "hydra", "figures")))


def line(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "spaceevo.baseline", *KEYS, f"run_dir={folder}", *more]


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    done = forked(line(folder, *more), folder)
    assert done.returncode == 0, done.stderr
    return done


def found_in(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "baselines.yaml").read_text())


def card_of(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "baselines" / name / "card.json").read_text())


@pytest.fixture(scope="module")
def compared(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run with its baselines, one of them slower than the run's fastest, and what the command said."""
    folder = copied(tiny_run, tmp_path_factory.mktemp("compared") / "run")
    return folder, run(folder, "baseline.widths=[0.5,4]").stdout


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_a_baselines_card_verifies_like_any_models(name: str, compared: tuple[Path, str], command: Command) -> None:
    folder, _ = compared
    card = card_of(folder, name)
    assert set(REQUIRED) <= set(card) and card["space"] is None and card["encoding"] == name.replace("-", " ")
    assert card["parity"]["first_apart"] is None and card["float_convolutions"] == 0
    told = card["baseline"]
    assert told["steps"] > 0 and told["seconds"] == 1
    assert told["quantized"] in told["top1_choosing"]
    assert told["top1_choosing"][told["quantized"]] == max(told["top1_choosing"].values())
    done = command("verify", f"path={folder / 'baselines' / name}", "out_dir=.", "progress_bar=false")
    assert done.returncode == 0, done.stderr


def test_the_figures_are_the_cards_and_the_verdict_follows_from_them(compared: tuple[Path, str]) -> None:
    folder, said = compared
    found = found_in(folder)
    assert [row["name"] for row in found["networks"]] == [SMALL, LARGE]
    places = {"networks": "baselines", "models": "models", "at": "baselines/at/models"}
    for group, place in places.items():
        assert found[group]
        for row in found[group]:
            card = json.loads((folder / place / row["name"] / "card.json").read_text())
            assert row["top1"] == {one.runtime: one.claims["top1"] for one in ran(card) if one.claims["precision"] == "int8"}
            assert set(row["measured_ms"]) == set(row["top1"]) == set(HERE)
            assert min(row["measured_ms"].values()) > 0
            assert (row["params"], row["mmacs"], row["top1_val"]) == (card["params"], card["mmacs"], card["top1_val"])
    groups = [found[group] for group in places]
    assert found["verdict"] == [verdict(*groups, runtime) for runtime in HERE]
    sums = verdict_sums(found)
    assert [f"baseline: {text}" for text in sums] == said.splitlines()[-len(sums) :]


def test_the_run_is_searched_finished_and_exported_at_a_baselines_latency(compared: tuple[Path, str]) -> None:
    folder, _ = compared
    before = {entry["name"] for entry in yaml.safe_load((folder / "pareto.yaml").read_text())["chosen"]}
    assert {path.parent.name for path in folder.glob("models/*/card.json")} == before  # the run's own are as they were
    large = next(row for row in found_in(folder)["networks"] if row["name"] == LARGE)
    assert large["limit_ms"] == card_of(folder, LARGE)["measured_ms"]
    beside = next(row for row in found_in(folder)["verdict"][0]["beside"] if row["baseline"] == LARGE)
    card = json.loads((folder / "baselines/at/models" / beside["model"] / "card.json").read_text())
    assert card["limit_ms"] == large["limit_ms"] and card["finish"]["steps"] > 0
    limits = sorted(row["limit_ms"] for row in found_in(folder)["at"])
    assert set(limits) <= {row["limit_ms"] for row in found_in(folder)["networks"]}


def test_the_report_draws_both_fronts_and_the_pipeline_has_nothing_to_do(compared: tuple[Path, str], command: Command) -> None:
    folder, _ = compared
    page = (folder / "report.html").read_text()
    for runtime in HERE:
        assert f'id="figure-baselines-{runtime}"' in page and (folder / f"figures/baselines-{runtime}.png").is_file()
        marks = re.search(rf'<g id="{runtime}-baselines">.*?</g>\s*</g>', page, re.S)
        assert marks is not None and marks[0].count("<title>") == 2
    for text in verdict_sums(found_in(folder)):
        assert text.replace("'", "&#39;") in page
    steps = [name for name, step in STEPS.items() if not step.lenient and not step.optional]
    assert all(f'id="time-{name}"' in page for name in steps) and 'id="time-baseline"' not in page
    again = command("pipeline", *TINY, f"run_dir={folder}")
    assert again.returncode == 0 and again.stdout.startswith("nothing to do"), again.stdout


def test_again_it_says_the_verdict_and_makes_nothing(compared: tuple[Path, str]) -> None:
    folder, said = compared
    before = (folder / "baselines.yaml").stat().st_mtime_ns
    lines = run(folder, "baseline.widths=[0.5,4]").stdout.splitlines()
    assert lines[0] == f"baseline: up to date ({folder})" and lines[-2:] == said.splitlines()[-2:]
    assert (folder / "baselines.yaml").stat().st_mtime_ns == before


def mark(path: Path) -> int:
    """A number of steps in a checkpoint that no training takes: it stays unless the network is trained again."""
    save_checkpoint(path, load_checkpoint(path) | {"steps": 77_777})
    return 77_777


@pytest.mark.slow
def test_a_finished_network_is_not_trained_again_after_a_kill_or_beside_others(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path / "run")
    trained, more = folder / f"baselines/{SMALL}/trained.ckpt", ("baseline.widths=[0.5,1]", "baseline.search=false")
    (tmp_path / "killer").mkdir()
    kill_when(trained, line(folder, *more), tmp_path / "killer")
    assert not (folder / "baselines.yaml").exists()
    marked = mark(trained)
    run(folder, *more)
    found = found_in(folder)
    assert [row["steps"] == marked for row in found["networks"]] == [True, False]
    assert found["at"] == found["models"] and not found["searched"] and not (folder / "baselines/at").exists()
    run(folder, "baseline.widths=[0.5]", "baseline.search=false")
    assert [row["steps"] for row in found_in(folder)["networks"]] == [marked]
    assert not (folder / "baselines/plain4-x1/card.json").exists()  # no longer one of them
    run(folder, "baseline.widths=[0.5]", "baseline.search=false", "baseline.lr=0.1")
    assert found_in(folder)["networks"][0]["steps"] != marked  # another recipe


@pytest.mark.slow
def test_own_are_the_subnets_of_the_runs_models_from_nothing(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path / "run")
    run(folder, "baselines=[own,plain4]", "baseline.widths=[0.5]", "baseline.search=false")
    names = [row["name"] for row in found_in(folder)["networks"]]
    models = sorted(path.name for path in (folder / "models").iterdir())
    assert names == [*(f"own-{model}" for model in models), SMALL]
    for model in models:
        alone, theirs = card_of(folder, f"own-{model}"), json.loads((folder / "models" / model / "card.json").read_text())
        assert [alone[key] for key in ("encoding", "params", "mmacs")] == [
            theirs[key] for key in ("encoding", "params", "mmacs")
        ]
        ends = [
            load_checkpoint(folder / path)["state_dict"]
            for path in (f"baselines/own-{model}/trained.ckpt", f"finished/{model}.ckpt")
        ]
        assert ends[0].keys() == ends[1].keys() and any(
            not torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True)
        )


@pytest.mark.slow
def test_killed_while_the_run_is_finished_at_a_latency_it_goes_on_from_there(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path / "run")
    (tmp_path / "killer").mkdir()
    kill_when(folder / "baselines/at/finished/*.ckpt", line(folder, "baseline.widths=[4]"), tmp_path / "killer")
    kept = [folder / f"baselines/{LARGE}/card.json", folder / "baselines/at/pareto.yaml"]
    before = [path.read_bytes() for path in kept]
    run(folder, "baseline.widths=[4]")
    assert [path.read_bytes() for path in kept] == before  # neither measured nor searched anew
    assert found_in(folder)["at"][0]["limit_ms"] == found_in(folder)["networks"][0]["limit_ms"]
    assert not (folder / "partial").exists() and not (folder / "baselines/at/partial").exists()


def test_limits_that_no_subnet_keeps_are_told_and_no_failure(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose("baseline", [*KEYS, f"run_dir={tiny_run}", f"out_dir={tmp_path}"])
    assert searched_at(folder_of(STEPS["baseline"], cfg), [1e-6, 2e-6], cfg.finish) == []
    said = capsys.readouterr().out
    assert "the run at 1e-06, 2e-06 ms" in said and "the run has no model for less than 0.0" in said
    (path,) = searched_at(folder_of(STEPS["baseline"], cfg), [1e-6, 3.0], cfg.finish)
    assert json.loads(path.read_text())["limit_ms"] == 3.0 and tmp_path in path.parents


def test_the_budget_is_the_runs_time_a_model(tiny_run: Path) -> None:
    cfg = compose("baseline", [*TINY, f"run_dir={tiny_run}"])
    records = [json.loads(path.read_text()) for path in tiny_run.glob("provenance/*.json")]
    total = sum(record["wall_s"] for record in records if record["step"] != "report")
    assert seconds_a_model(folder_of(STEPS["baseline"], cfg)) == pytest.approx(total / 2)
    assert cfg.baseline.seconds is None


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=20))
def test_near_limits_are_one_and_none_gets_a_larger(limits: list[float]) -> None:
    kept = merged(limits)
    assert set(kept) <= set(limits) and min(limits) == kept[0]
    assert all(larger >= CLOSE * smaller for smaller, larger in pairwise(kept))
    for limit in limits:
        assert any(near <= limit < CLOSE * near for near in kept)


def test_a_run_without_models_names_the_command(tmp_path: Path, command: Command) -> None:
    done = command("baseline", *KEYS, f"run_dir={tmp_path / 'none'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "baseline needs " in done.stderr and "models/*/model.onnx, which is missing; make it with `" in done.stderr
    assert "python -m spaceevo.export experiment=tiny" in done.stderr


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("baselines=[plain4,vgg]", "baselines=vgg: no such baselines; there are: plain4, plain5, plain, resnet, "),
        ("baselines=[]", "baselines=[]: must be a list of one or more of plain4, "),
        ("baselines=[plain,plain]", "baselines=['plain', 'plain']: must be a list of one or more of plain4, "),
        (
            "baseline.widths=[]",
            "baseline.widths=[]: must be null or a list of numbers above 0 and at most 1000, at least one, without repeats",
        ),
        ("baseline.widths=[1,-1]", "baseline.widths=[1.0, -1.0]: must be null or a list of numbers above 0"),
        ("baseline.seconds=0", "baseline.seconds=0.0: must be null or more than 0"),
        ("baseline.quantized_from=1", "baseline.quantized_from=1.0: must be less than 1"),
    ],
)
def test_bad_values(argument: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        compose("baseline", ["experiment=tiny", argument])
    assert str(caught.value).startswith(said)


def test_a_device_that_is_not_here_and_no_images_to_choose_by_are_told(tiny_run: Path, tmp_path: Path) -> None:
    here = [*KEYS, f"run_dir={tiny_run}", f"out_dir={tmp_path / 'job'}"]
    with pytest.raises(UserError, match=r"^device=pixel4: is not here .*; the baseline measures device=host$"):
        execute("baseline", compose("baseline", [*here, "device=pixel4"]))
    with pytest.raises(UserError, match=r"^search_subnet\.judge_images=200: must be less than data\.validation=200: "):
        cfg = compose("baseline", [*here, "search_subnet.quality=lut", "search_subnet.judge_images=200"])
        STEPS["baseline"].run(folder_of(STEPS["baseline"], cfg), cfg)


def test_checkpoints_hold_plain_data(compared: tuple[Path, str]) -> None:
    content = torch.load(compared[0] / f"baselines/{SMALL}/trained.ckpt", weights_only=True)
    assert content["made"]["recipe"]["seconds"] == 1 and content["made"]["width"] == 0.5
