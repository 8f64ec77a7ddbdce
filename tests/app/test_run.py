"""Steps: what is up to date, what is refused and why, what goes on after a kill."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from spaceevo.app.artifacts import recorded
from spaceevo.app.config import Config, compose
from spaceevo.app.run import execute, run_pipeline
from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.steps import STEPS

#: What the pipeline runs.
PIPELINE = [name for name, step in STEPS.items() if not step.optional]


def raise_version(monkeypatch: pytest.MonkeyPatch, name: str) -> int:
    """As if the code of a step had changed its meaning since; returns the new version."""
    monkeypatch.setitem(STEPS, name, dataclasses.replace(STEPS[name], version=STEPS[name].version + 1))
    return STEPS[name].version


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty folder, and the names of the steps that ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import small_recipes

    for name, step in list(STEPS.items()):
        monkeypatch.setitem(STEPS, name, dataclasses.replace(step, run=small_recipes.RECIPES[name]))
    small_recipes.RAN.clear()
    return small_recipes.RAN


@cache
def _composed(*overrides: str) -> Config:
    return compose("pipeline", ["experiment=tiny", *overrides])


def tiny(*overrides: str) -> Config:
    return copy.deepcopy(_composed(*overrides))


def provenance(step: str) -> dict:
    return json.loads(Path(f"runs/tiny/provenance/{step}.json").read_text())


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def stopped_in(step: str) -> Iterator[None]:
    """The recipe of ``step`` is interrupted half-way."""
    os.environ["STOP_IN"] = step
    try:
        yield
    finally:
        del os.environ["STOP_IN"]


def test_pipeline_runs_every_step_in_order_and_then_nothing(ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_pipeline(tiny())
    assert ran == PIPELINE
    ran.clear()
    assert not run_pipeline(tiny())
    assert ran == []
    assert (
        capsys.readouterr().out.splitlines()[-1] == "nothing to do: every step is up to date; report at runs/tiny/report.html"
    )


def test_changed_config_reruns_just_what_depends_on_it(ran: list[str]) -> None:
    run_pipeline(tiny())
    ran.clear()
    run_pipeline(tiny("qat.lr=0.001"))
    assert ran == ["qat", "tau", "search_subnet", "finish", "export", "benchmark", "report"]
    ran.clear()
    run_pipeline(tiny("qat.lr=0.001", "trainer.progress_bar=true", "data.workers=1", "threads=2"))
    assert ran == []


def test_step_alone_says_that_it_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute("profile", tiny())
    assert not execute("profile", tiny())
    assert capsys.readouterr().out.splitlines()[-1] == "profile: up to date (runs/tiny)"


def test_bkd_trains_a_missing_teacher_first(ran: list[str]) -> None:
    execute("bkd", compose("train", ["experiment=tiny", "device=pixel4", "name=phone"]))
    assert ran == ["teacher", "bkd"]


def test_missing_input_names_the_command_that_makes_it() -> None:
    with pytest.raises(
        UserError, match=r"space\.yaml, which is missing; make it with `python -m spaceevo\.search_space run_dir"
    ):
        execute("supernet", tiny())


def test_truncated_input_is_named() -> None:
    run_pipeline(tiny())
    lut = Path("runs/tiny/lut.parquet")
    lut.write_bytes(lut.read_bytes()[:10])
    with pytest.raises(UserError, match=r"runs/tiny/lut\.parquet: truncated or changed.*python -m spaceevo\.lut"):
        execute("search_space", tiny())


def test_pipeline_makes_a_damaged_artifact_again(ran: list[str]) -> None:
    run_pipeline(tiny())
    before = Path("runs/tiny/lut.parquet").read_bytes()
    Path("runs/tiny/lut.parquet").write_bytes(before[:10])
    ran.clear()
    run_pipeline(tiny())
    assert ran == ["lut"]
    assert Path("runs/tiny/lut.parquet").read_bytes() == before


def test_input_of_another_config_is_refused_with_the_keys_that_differ() -> None:
    run_pipeline(tiny())
    with pytest.raises(
        UserError, match=r"lut\.parquet was made with another config \(tabulate\.samples 3 -> 5\); make it again"
    ):
        execute("search_space", tiny("tabulate.samples=5"))
    with pytest.raises(UserError, match=r"teacher\.ckpt was made with another config \(teacher\.lr 0\.05 -> 0\.01\)"):
        execute("search_space", tiny("teacher.lr=0.01"))


def test_input_made_from_an_older_artifact_is_refused() -> None:
    run_pipeline(tiny())
    execute("teacher", tiny("teacher.lr=0.01"))
    with pytest.raises(UserError, match=r"bkd/\*\.safetensors was made from another teacher\.ckpt"):
        execute("lut", tiny("teacher.lr=0.01"))


def test_an_input_of_another_split_is_refused_and_another_seed_is_not(ran: list[str]) -> None:
    run_pipeline(tiny())
    with pytest.raises(UserError, match=r"\(data\.split_seed 0 -> 1\); make it again with `python -m spaceevo\.\w+"):
        execute("search_subnet", tiny("data.split_seed=1"))
    ran.clear()
    execute("search_subnet", tiny("seed=1"))
    assert ran == ["search_subnet"]


@pytest.mark.parametrize("step", ["teacher", "supernet", "search_space"])
def test_an_input_of_an_older_version_is_refused_and_made_again_by_the_pipeline(
    step: str, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_pipeline(tiny())
    new = raise_version(monkeypatch, step)
    reader = {"teacher": "lut", "supernet": "export", "search_space": "supernet"}[step]
    command, artifact = STEPS[step].command, STEPS[step].outputs[0]
    with pytest.raises(UserError) as error:
        execute(reader, tiny())
    why = f"made by version {new - 1} of the step {step}, which is at {new} now"
    assert str(error.value) == (
        f"runs/tiny/{artifact} was {why}; make it again with `python -m spaceevo.{command} run_dir=runs/tiny`"
    )
    ran.clear()
    capsys.readouterr()
    run_pipeline(tiny())
    assert ran[0] == step and "report" not in ran[:1]
    assert f"{step}: runs again, since what runs/tiny holds was {why}" in capsys.readouterr().out.splitlines()
    assert provenance(step)["version"] == new
    ran.clear()
    assert not run_pipeline(tiny()) and ran == []


def test_a_record_without_a_version_is_of_the_first(ran: list[str]) -> None:
    run_pipeline(tiny())
    for name in ("profile", "teacher"):
        path = Path(f"runs/tiny/provenance/{name}.json")
        path.write_text(json.dumps({key: value for key, value in provenance(name).items() if key != "version"}))
    ran.clear()
    run_pipeline(tiny())
    assert "teacher" in ran and "profile" not in ran
    assert (STEPS["profile"].version, STEPS["teacher"].version) == (1, 2)


def test_of_several_inputs_of_older_versions_the_first_to_make_again_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run_pipeline(tiny())
    for name in ("qat", "teacher", "lut"):
        raise_version(monkeypatch, name)
    with pytest.raises(UserError, match=r"^runs/tiny/teacher\.ckpt was made by version 2 of the step teacher"):
        execute("export", tiny())


def test_partial_work_of_an_older_version_is_dropped(monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> None:
    monkeypatch.setenv("STOP_IN", "teacher")
    with pytest.raises(KeyboardInterrupt):
        execute("teacher", tiny())
    assert Path("runs/tiny/partial/teacher/epochs").read_text() == "2"
    raise_version(monkeypatch, "teacher")
    with pytest.raises(KeyboardInterrupt):  # at its second epoch again: it began anew
        execute("teacher", tiny())


def test_subnets_may_be_searched_for_other_limits_in_the_same_space(ran: list[str]) -> None:
    run_pipeline(tiny())
    ran.clear()
    execute("search_subnet", tiny("latency.limits_ms=[1.0]", "out_dir=runs/tiny/multirun/a"))
    execute("finish", tiny("latency.limits_ms=[1.0]", "out_dir=runs/tiny/multirun/a"))
    execute("export", tiny("latency.limits_ms=[1.0]", "out_dir=runs/tiny/multirun/a"))
    assert ran == ["search_subnet", "finish", "export"]
    assert Path("runs/tiny/multirun/a/pareto.yaml").exists()


def test_run_folder_of_another_configuration_is_refused_until_told_to_start_over(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_pipeline(tiny())
    Path("runs/tiny/notes.txt").write_text("mine")
    refused = Path("runs/tiny/models/old-1ms/refused/parity.json")
    refused.parent.mkdir(parents=True)
    refused.write_text("{}")
    for start_over in ("start_over=false", "start_over=true"):
        with pytest.raises(UserError, match=r"run_dir=runs/tiny is another configuration's \(blocks\.name tiny -> conv"):
            execute("profile", tiny("blocks=conv", start_over))
    assert Path("runs/tiny/report.html").exists()
    at = "out_dir=runs/tiny/baselines/at"
    execute("search_subnet", tiny("latency.limits_ms=[1.0]", at))
    before = content(Path("runs/tiny"))
    ran.clear()
    capsys.readouterr()
    anew = tiny("blocks=conv", "start_over=true")
    with stopped_in("supernet"), pytest.raises(KeyboardInterrupt):
        run_pipeline(anew)
    told = capsys.readouterr().out
    assert "hours of work) go to runs/tiny/aside/1, kept until the new run is complete" in told
    assert "start_over: teacher.ckpt of teacher, 0.0 hours old, 0.00 hours of work" in told
    assert not list(Path("runs/tiny/baselines").rglob("*.*"))
    assert not Path("runs/tiny/report.html").exists()
    assert Path("runs/tiny/notes.txt").read_text() == "mine"
    kept = content(Path("runs/tiny/aside/1"))
    assert "models/old-1ms/refused/parity.json" in kept and not Path("runs/tiny/models").exists()
    assert kept.items() <= before.items() and {"report.html", "teacher.ckpt", "run.yaml"} <= set(kept)
    ran.clear()
    run_pipeline(tiny("blocks=conv"))
    assert ran[0] == "supernet"
    assert not Path("runs/tiny/aside").exists()


def test_starting_a_step_over_redoes_it_and_what_follows_from_it_alone(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run_pipeline(tiny())
    whole = content(Path("runs/tiny"))
    ran.clear()
    execute("lut", tiny("start_over=true"))
    assert ran == ["lut"]  # it came out the same: nothing follows
    monkeypatch.setenv("MADE", "anew")
    ran.clear()
    execute("lut", tiny("start_over=true"))
    assert ran[:3] == ["lut", "search_space", "supernet"] and ran[-1] == "report"
    assert not {"profile", "predictor", "teacher", "bkd"} & set(ran)
    now = content(Path("runs/tiny"))
    assert all(now[path] == whole[path] for path in ("teacher.ckpt", "bkd/a.safetensors", "latency/predictor.json"))
    ran.clear()
    assert not run_pipeline(tiny())


def test_a_step_that_is_refused_is_not_started_over() -> None:
    run_pipeline(tiny())
    Path("runs/tiny/teacher.ckpt").unlink()
    before = content(Path("runs/tiny"))
    with pytest.raises(UserError, match=r"teacher\.ckpt, which is missing"):
        execute("lut", tiny("start_over=true"))
    assert content(Path("runs/tiny")) == before


def test_a_pipeline_that_is_refused_is_not_started_over() -> None:
    run_pipeline(tiny())
    before = content(Path("runs/tiny"))
    with pytest.raises(UserError, match=r"data\.classes=11"):
        run_pipeline(tiny("start_over=true", "data.classes=11"))
    assert content(Path("runs/tiny")) == before


def test_a_model_that_is_named_where_all_are_made_is_refused_with_those_there_are() -> None:
    run_pipeline(tiny())
    with pytest.raises(
        UserError,
        match=r"^model=aa: only describe reads it, and with space= the search; here every .* finds: a$",
    ):
        execute("export", tiny("model=aa"))


def test_a_killed_step_that_was_started_over_goes_on(ran: list[str]) -> None:
    run_pipeline(tiny())
    with stopped_in("teacher"), pytest.raises(KeyboardInterrupt):
        execute("teacher", tiny("start_over=true"))
    ran.clear()
    assert execute("teacher", tiny())
    assert ran == ["teacher"]
    assert not execute("teacher", tiny())


@pytest.mark.parametrize("step", ["teacher", "supernet", "export"])
def test_interrupted_step_goes_on_and_ends_with_the_same_artifacts(
    step: str, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pipeline(tiny("run_dir=whole"))
    ran.clear()
    monkeypatch.setenv("STOP_IN", step)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(tiny("run_dir=killed"))
    partial = Path("killed/partial") / step / "epochs"
    assert partial.read_text() == "2"
    monkeypatch.delenv("STOP_IN")
    ran.clear()
    run_pipeline(tiny("run_dir=killed"))
    assert ran == PIPELINE[PIPELINE.index(step) :]
    assert not Path("killed/partial").exists()
    for name in PIPELINE:
        outputs = [
            json.loads(Path(folder, "provenance", f"{name}.json").read_text())["outputs"] for folder in ("whole", "killed")
        ]
        assert outputs[0] == outputs[1]


def test_partial_work_of_another_config_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOP_IN", "teacher")
    for rate in (0.1, 0.2):
        with pytest.raises(KeyboardInterrupt):
            execute("teacher", tiny(f"teacher.lr={rate}"))
        assert Path("runs/tiny/partial/teacher/epochs").read_text() == "2"


def test_outputs_that_the_step_no_longer_makes_are_removed() -> None:
    run_pipeline(tiny())
    stale = Path("runs/tiny/models/old/card.json")
    stale.parent.mkdir()
    stale.write_text("{}")
    execute("export", tiny("export.tolerance=90"))
    assert not stale.parent.exists()
    assert Path("runs/tiny/models/a/card.json").exists()


def test_given_space_replaces_the_search(ran: list[str]) -> None:
    run_pipeline(tiny("space=tiny-0120-1100"))
    assert "search_space" not in ran and "bkd" not in ran and "supernet" in ran


def test_what_is_not_here_is_not_benchmarked(ran: list[str]) -> None:
    run_pipeline(tiny("device=pixel4", "name=phone"))
    assert "export" in ran and not {"benchmark", "profile"} & set(ran)
    with pytest.raises(UserError, match=r"^device=pixel4: is not here to be measured \(runtime none\)"):
        execute("benchmark", tiny("device=pixel4", "name=phone"))


def test_device_without_latencies_is_named_with_what_would_help() -> None:
    cfg = compose("lut", ["device=pixel4", "device.predictor=null"])
    with pytest.raises(
        UserError, match=r"^device=pixel4 has no latency predictor.*python -m spaceevo\.predictor device=pixel4"
    ):
        execute("lut", cfg)


def test_report_of_an_empty_folder_names_the_pipeline() -> None:
    with pytest.raises(UserError, match=r"run_dir=missing: holds nothing to show; make it with `python -m spaceevo\.pipeline"):
        execute("report", compose("report", ["run_dir=missing"]))


def test_provenance_tells_how_an_artifact_was_made() -> None:
    run_pipeline(tiny("seed=3"))
    record = provenance("lut")
    assert record["config"]["tabulate.samples"] == 3 and record["seed"] == 3
    assert record["inputs"]["teacher.ckpt"] == provenance("teacher")["outputs"]["teacher.ckpt"]
    assert record["code_version"] and record["peak_rss_mib"] > 0 and record["wall_s"] >= 0 and record["started"]


def test_optional_steps_run_where_they_are_asked_for_and_nothing_is_built_on_them(ran: list[str]) -> None:
    optional = [name for name, step in STEPS.items() if step.optional]
    run_pipeline(tiny(f"also={optional}".replace("'", "").replace(" ", "")))
    assert ran == list(STEPS)
    ran.clear()
    run_pipeline(tiny("fig8_qt.spaces=5"))  # which fig8_qt was not made with
    assert ran == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are counted anew on Linux alone")
def test_a_steps_peak_memory_is_also_that_of_before_another_ran_within_it() -> None:
    cfg = tiny()
    folder = Path(cfg.out_dir)
    for name in ("profile", "teacher"):
        for pattern in STEPS[name].outputs:
            atomic_write(folder / pattern, "")
    with recorded(STEPS["teacher"], cfg, folder, {}, 0.0):
        np.ones(50_000_000)  # 400 MB, given back at once
        with recorded(STEPS["profile"], cfg, folder, {}, 0.0):
            pass
    assert provenance("teacher")["peak_rss_mib"] > provenance("profile")["peak_rss_mib"] + 300


def test_of_stale_inputs_the_first_to_make_again_is_named() -> None:
    run_pipeline(tiny())
    execute("teacher", tiny("teacher.lr=0.01"))
    with pytest.raises(UserError, match=r"^runs/tiny/bkd/\*\.safetensors was made from another teacher\.ckpt"):
        execute("search_space", tiny("teacher.lr=0.01"))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("run_dir=notes/run",), "run_dir=notes/run: must be the path of a folder; .*notes is a file"),
        (("run_dir=",), "run_dir=: must be the path of a folder"),
        (("run_dir=/",), "run_dir=/: must be a folder below the root of the file system"),
        (("run_dir=/../.",), "must be a folder below the root of the file system"),
        (("teacher.widths=[8,16]",), r"teacher\.widths=\[8, 16\]: must be 5 widths, the stem's and one a stage"),
        (("data.classes=11",), "data.classes=11: must be 10 for digits"),
        (("trainer=gpu",), "trainer.accelerator=gpu: must be cpu or auto"),
        (("model=nope",), "model=nope: only describe reads it"),
        (("lut=nowhere",), "lut=nowhere: no such file or folder"),
    ],
)
def test_what_can_be_known_is_known_before_the_first_step_and_leaves_no_trace(
    overrides: tuple[str, ...], told: str, ran: list[str]
) -> None:
    if "gpu" in overrides[0]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    Path("notes").write_text("mine")
    with pytest.raises(UserError, match=told):
        run_pipeline(tiny(*overrides))
    assert ran == [] and content(Path()) == {"notes": b"mine"} and list(Path().iterdir()) == [Path("notes")]


def test_a_full_disk_is_known_before_the_first_step(ran: list[str]) -> None:
    from spaceevo.app.ahead import disk_bytes

    few, many = (disk_bytes([STEPS["lut"]], tiny(f"tabulate.calibration_images={n}"))["lut"] for n in (64, 10**9))
    assert few < 2**24
    assert many > 2**40
    with pytest.raises(UserError, match=r"^run_dir=runs/tiny: [\d,]+ MiB are free on its disk, and the steps .* may take"):
        run_pipeline(tiny("tabulate.calibration_images=1000000000"))
    assert ran == [] and not list(Path().iterdir())


@pytest.mark.parametrize("text", ["data: [", "just words", "[1, 2]", "", "\0"])
def test_a_broken_record_of_whose_a_folder_is_is_named_and_kept(text: str, ran: list[str]) -> None:
    run_pipeline(tiny())
    Path("runs/tiny/run.yaml").write_text(text)
    ran.clear()
    with pytest.raises(UserError, match=r"^runs/tiny/run\.yaml: cannot be read .*; remove it to make it yours$"):
        run_pipeline(tiny())
    assert ran == [] and Path("runs/tiny/run.yaml").read_text() == text


def test_a_folder_where_a_file_should_be_is_called_one() -> None:
    run_pipeline(tiny())
    Path("runs/tiny/lut.parquet").unlink()
    Path("runs/tiny/lut.parquet").mkdir()
    with pytest.raises(UserError, match=r"search_space needs runs/tiny/lut\.parquet, which is a folder; make it with"):
        execute("search_space", tiny())


def test_what_another_step_is_writing_is_left_alone() -> None:
    run_pipeline(tiny())
    theirs, own = Path("runs/tiny/.teacher.ckpt.7.tmp.ckpt"), Path("runs/tiny/.report.html.7.tmp.html")
    for path in (theirs, own):
        path.touch()
    execute("report", tiny("start_over=true"))
    assert theirs.exists() and not own.exists()
    execute("teacher", tiny("start_over=true"))
    assert not theirs.exists()
