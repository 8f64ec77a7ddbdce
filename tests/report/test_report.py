"""The report without a browser: what the page says, and the files it writes."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from report.building import SHOWN, build

from spaceevo import latency
from spaceevo.errors import UserError
from spaceevo.evolution import load_table
from spaceevo.latency.parts import whole
from spaceevo.latency.predictor import Predictor
from spaceevo.paths import conf_dir
from spaceevo.report.data import load_run, table_cells, within_limit
from spaceevo.report.figures import significant
from spaceevo.report.page import count, points, seconds, size
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, published_model
from spaceevo.steps import STEPS

FIGURES = {"accuracy", "prediction", "evolution", "space", "cloud", "types", "widths", "blocks", "time", "tau", "confusion"}
HOSTILE = '<script>alert("x")</script> $x^2$ & --><b>'


@pytest.fixture(scope="module")
def built(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the tiny run, in a folder of its own."""
    out = tmp_path_factory.mktemp("report")
    build(tiny_run, out)
    return out


def copy_run(tiny_run: Path, to: Path, leave_out: tuple[str, ...] = ()) -> Path:
    return Path(shutil.copytree(tiny_run, to, ignore=shutil.ignore_patterns("*.ckpt", "bkd", "logs", "figures", *leave_out)))


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def page(folder: Path) -> str:
    return (folder / "report.html").read_text()


def model_rows(markup: str) -> list[list[str]]:
    """The cells of every model's first row, as text."""
    bodies = re.findall(r'<tbody class="model">(.*?)</tr>', markup, re.S)
    return [[words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", body, re.S)] for body in bodies]


def cards_of(run: Path) -> list[dict]:
    cards = [json.loads(path.read_text()) for path in run.glob("models/*/card.json")]
    return sorted(cards, key=lambda card: (card["limit_ms"], card["mmacs"]))


def test_the_largest_model_is_told_class_by_class_with_its_mistakes_as_pictures(built: Path, tiny_run: Path) -> None:
    largest = max(cards_of(tiny_run), key=lambda card: card["mmacs"])
    section = re.search(r'<section id="classes">(.*?)</section>', page(built), re.S)
    assert section is not None
    assert f"{largest['classes']['balanced']:.2f}" in section[1]
    assert section[1].count('src="data:image/png;base64,') == 2
    rows = [words(row) for row in re.findall(r"<tbody>(.*?)</tbody>", section[1], re.S)[0].split("</tr>")]
    right, images = largest["classes"]["right"], largest["classes"]["images"]
    assert rows[:10] == [f"{i} {images[i]} {100 * right[i] / images[i]:.2f} %" for i in range(10)]


def test_the_pipeline_leaves_a_report(tiny_run: Path, built: Path) -> None:
    assert page(tiny_run) == page(built)
    assert {path.stem for path in (tiny_run / "figures").iterdir()} == FIGURES


def test_the_table_holds_the_cards_values(tiny_run: Path, built: Path) -> None:
    cards, rows = cards_of(tiny_run), model_rows(page(built))
    assert len(rows) == len(cards) > 0
    benchmark = pd.read_parquet(tiny_run / "benchmark.parquet").set_index("name")
    for card, row in zip(cards, rows, strict=True):
        again = benchmark.measured_ms[card["name"]]
        assert row[0] == card["name"]
        shown = [float(re.match(r"[\d.,]+", cell)[0].replace(",", "")) for cell in [*row[1:6], *row[7:10]]]  # type: ignore[index]
        true = [card[key] for key in ("limit_ms", "predicted_ms", "measured_ms")] + [again]
        true += [card[key] for key in ("cold_ms", "fp32_ms", "speedup", "mmacs")]
        np.testing.assert_allclose(shown, true, rtol=5e-3)
        low, high = (significant(card["quantiles_ms"][q]) for q in ("p10", "p90"))
        assert row[3].endswith(f"{low}–{high}")  # noqa: RUF001
        kept = max(card["measured_ms"], again) <= card["limit_ms"]
        assert row[6] == ("yes" if kept else "no")
        assert row[10:12] == [count(card["params"]), size(card["bytes"])]
        percents = [f"{card[k]:.2f} %" for k in ("top1_runtime", "top1_fake_quant", "top1_inherited", "top1_fp32", "agreement")]
        assert [*row[12:16], *row[17:]] == percents and row[16] == points(card["quantization_loss"])
        assert card["encoding"] in words(page(built))


def test_it_leads_with_the_largest_model(tiny_run: Path, built: Path) -> None:
    largest = max(cards_of(tiny_run), key=lambda card: card["mmacs"])
    lead = words(re.search(r'<p class="lead" id="lead">(.*?)</p>', page(built), re.S)[1])  # type: ignore[index]
    for part in (largest["name"], f"{largest['top1_runtime']:.2f} %", f"{significant(largest['measured_ms'])} ms"):
        assert part in lead
    assert f"{significant(largest['speedup'])} times the speed" in lead
    assert ("INT8 is slower here" in lead) == (largest["speedup"] < 1)


def test_links_lead_to_files(tiny_run: Path, built: Path) -> None:
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', page(built))
    assert len(links) == sum(2 * len(card["files"]) + 2 for card in cards_of(tiny_run))  # in the table of models and its card
    for href, text in links:
        assert href == text
        assert (tiny_run / text).is_file()


def test_every_card_shows_its_files_and_ops(tiny_run: Path, built: Path) -> None:
    section = page(built).split('<section id="cards">')[1].split("</section>")[0]
    bodies = re.findall(r"<details class=\"card\"(.*?)</details>", section, re.S)
    assert len(bodies) == len(cards_of(tiny_run))
    assert sum(" open>" in body.split("\n")[0] for body in bodies) == 1
    for card, body in zip(cards_of(tiny_run), bodies, strict=True):
        text = words(body)
        for part in (f"{card['data']['images']} of digits", f"all {card['parity']['ops']} ops", "LiteRT gives no timings"):
            assert part in text
        for name, claims in card["files"].items():
            assert f"models/{card['name']}/{name}" in text
            assert claims["sha256"][:16] in text and claims["sha256"] in body
            assert f"{significant(claims['measured_ms'])} {significant(claims['cold_ms'])} {size(claims['bytes'])}" in text
        assert f"quantization itself costs {points(card['quantization_loss'])} points" in text
        assert f"{card['ptq']['top1']:.2f} %" in text and "minmax over 64 images" in text
        rows = re.findall(
            r'<tr><th scope="row">([^<]+)</th><td>[^<]+</td><td>[^<]+</td><td>[^<]*</td>\s*<td>([^<]+)</td>', body
        )
        assert [name for name, _ in rows] == [row["op"] for row in card["ops"]]
        for (_, shown), row in zip(rows, card["ops"], strict=True):
            if row["int8_ms"] is not None and row["int8_ms"] >= 1e-4:
                assert float(shown) == pytest.approx(1000 * row["int8_ms"], rel=0.06)


#: What figures are drawn from: a page without them is made in a moment.
DRAWN = ("space.yaml", "*.parquet")


def latency_section(folder: Path) -> str:
    found = re.search(r'<section id="latency">(.*?)</section>', page(folder), re.S)
    assert found is not None
    return found[1]


def cells(table: str) -> list[list[str]]:
    """The rows of a table's body, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.S)
    return [[words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]


def test_predictions_stand_beside_the_measurements_with_their_interval(tiny_run: Path, built: Path) -> None:
    predictor, hs = Predictor.load(tiny_run / "latency/predictor.json"), load_run([tiny_run], SHOWN).hyperspace
    assert predictor.interval is not None and predictor.domain is not None
    section, models, inside = latency_section(built), cards_of(tiny_run), 0
    benchmark = pd.read_parquet(tiny_run / "benchmark.parquet").set_index("name")
    rows = cells(section.split('id="predicted"')[1].split("</table>")[0])
    assert [row[0] for row in rows] == [card["name"] for card in models]
    for card, row in zip(models, rows, strict=True):
        net = Subnet.parse(SearchSpace.parse(card["space"], hs.with_task(1, 10)), card["encoding"])
        assert predictor.subnet_ms(net) == pytest.approx(card["predicted_ms"], rel=1e-5)
        low, high = (ratio * predictor.subnet_ms(net) for ratio in predictor.interval)
        assert row[1:3] == [significant(predictor.subnet_ms(net)), f"{significant(low)} to {significant(high)}"]
        for ms, cell in ((card["measured_ms"], row[4]), (benchmark.measured_ms[card["name"]], row[6])):
            assert cell == ("yes" if low <= ms <= high else "no")
            inside += low <= ms <= high
        assert row[7] == "no" or row[7].startswith("extrapolates : ")
    assert f"{inside} of {2 * len(models)} measurements lie between what nine of ten" in words(section)


def test_time_is_told_by_stage_and_by_kernel(tiny_run: Path, built: Path) -> None:
    models = cards_of(tiny_run)
    parts = re.findall(r"<details class=\"timing\"(.*?)</details>", latency_section(built), re.S)
    assert len(parts) == len(models)
    for card, part in zip(models, parts, strict=True):
        stages, kernels = (cells(table) for table in part.split("<table")[1:])
        assert [row[0] for row in stages] == ["call", "stem", "stage1", "stage2", "stage3", "stage4", "head"]
        assert "conv3" in {row[0] for row in kernels}
        for rows in (stages, kernels):
            assert sum(float(row[1]) for row in rows) == pytest.approx(card["predicted_ms"], rel=0.02)
            assert sum(float(row[2].removesuffix(" %")) for row in rows) == pytest.approx(100, abs=0.5)
            for place, precision in ((-2, "int8_ms"), (-1, "fp32_ms")):
                measured = sum(op[precision] or 0.0 for op in card["ops"])
                told = [float(row[place]) for row in rows if row[place][0].isdigit()]
                assert sum(told) == pytest.approx(measured, rel=0.02)


def test_which_file_to_ship_stands_in_a_table_of_runtimes_and_devices(tiny_run: Path, built: Path, tmp_path: Path) -> None:
    models = cards_of(tiny_run)
    section = latency_section(built)
    rows = cells(section.split('id="ship"')[1])
    files = [(card, name) for card in models for name, file in card["files"].items() if file["precision"] == "int8"]
    assert len(rows) == len(files)
    for (card, name), row in zip(files, rows, strict=True):
        claims = card["files"][name]
        assert row[0] == card["name"] and row[1].startswith("host (") and row[2] == claims["runtime"]
        assert row[3:5] == [name, significant(claims["measured_ms"])]
        assert row[7:9] == [significant(claims["cold_ms"]), size(claims["bytes"])]
        if name == "model.onnx":
            assert row[5:7] == [significant(card["fp32_ms"]), f"{significant(card['speedup'])}×"]  # noqa: RUF001
    assert words(section).count(" ship ") >= 2 and 'class="advice">On host (' in section
    run, other = copy_run(tiny_run, tmp_path / "run", DRAWN), copy_run(tiny_run, tmp_path / "other", DRAWN)
    for path in other.glob("models/*/card.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "raspberry"}))
    build(run, tmp_path / "out", compare=[other])
    beside = latency_section(tmp_path / "out")
    assert 'class="advice">On raspberry (' in beside
    rows = cells(beside.split('id="ship"')[1])
    assert len(rows) == 2 * len(files)
    assert [row[0] for row in rows[len(files) :]] == [f"{card['name']} of {other}" for card, _ in files]


def test_a_prediction_that_extrapolates_and_one_that_cannot_tell_are_told_apart(tiny_run: Path, tmp_path: Path) -> None:
    run = copy_run(tiny_run, tmp_path / "run", DRAWN)
    path = run / "latency/predictor.json"
    held = json.loads(path.read_text())
    held["domain"]["conv3"]["channels out"] = [1, 2]
    path.write_text(json.dumps(held))
    build(run, tmp_path / "narrow")
    narrow = words(latency_section(tmp_path / "narrow"))
    assert "extrapolates : " in narrow and "channels out (1 to 2 measured)" in narrow
    held.pop("domain")
    held.pop("interval")
    path.write_text(json.dumps(held))
    build(run, tmp_path / "old")
    old = words(latency_section(tmp_path / "old"))
    assert "How far predictions are off is not known" in old and "does not tell what it was fitted to" in old
    path.unlink()
    build(run, tmp_path / "none")
    assert "latency/predictor.json is not there" in words(latency_section(tmp_path / "none"))


def test_a_device_whose_blocks_alone_are_published_shows_what_is_estimated(tiny_run: Path, tmp_path: Path) -> None:
    """A model of the paper, as a run for its phone has it, which cannot be measured here."""
    run, model = copy_run(tiny_run, tmp_path / "run", DRAWN), "SEQnet@pixel4-A2"
    published = published_model(model)
    latency.load("pixel4").save(run / "latency/predictor.json")
    (run / "run.yaml").write_text(yaml.safe_dump(identity_of("mobilew", yaml.safe_load((run / "run.yaml").read_text()))))
    none = ("measured_ms", "quantiles_ms", "cold_ms", "fp32_ms", "fp32_quantiles_ms", "speedup", "ops")
    first, *rest = sorted(run.glob("models/*/card.json"))
    for path in rest:
        shutil.rmtree(path.parent)
    card = json.loads(first.read_text()) | dict(space=published.space, encoding=published.subnet) | dict.fromkeys(none)
    first.write_text(json.dumps(card))
    build(run, tmp_path / "out")
    section = latency_section(tmp_path / "out")
    stages = cells(section.split("<table")[2])
    estimated = [row[0] for row in stages if row[0].endswith(" estimated")]
    assert estimated == ["stem estimated", "stage0 estimated", "head estimated"]
    net = Subnet.parse(SearchSpace.parse(published.space, load_hyperspace("mobilew").with_task(1, 10)), published.subnet)
    total = whole(latency.load("pixel4"), net)
    assert f"{significant(total.low_ms)} to {significant(total.high_ms)}" in words(section)
    assert all(re.fullmatch(r"[\d.]+ to [\d.]+", row[3]) for row in stages) and len(stages[0]) == 4
    assert "Not measured: nine of ten such subnets" in words(section)
    assert "nine of ten measure 0.252 to 1.75 times what is predicted of them" in words(section)


def identity_of(hyperspace: str, identity: dict) -> dict:
    """``run.yaml`` of a run in another hyperspace."""
    asked = yaml.safe_load((conf_dir() / f"hyperspace/{hyperspace}.yaml").read_text())
    blocks = yaml.safe_load((conf_dir() / f"blocks/{hyperspace}.yaml").read_text())
    kept = {key: value for key, value in identity.items() if not key.startswith(("hyperspace.", "blocks."))}
    return kept | {f"hyperspace.{key}": value for key, value in asked.items()} | {"blocks.blocks": blocks["blocks"]}


def test_a_refused_models_report_and_an_older_card_do_not_break_the_page(tiny_run: Path, tmp_path: Path) -> None:
    run = copy_run(tiny_run, tmp_path / "run")
    first, *others = sorted(run.glob("models/*/card.json"))
    old = json.loads(first.read_text())
    for key in ("files", "parity", "data", "ops", "ptq", "timing", "cold_ms", "top1_inherited", "finish", "quantization_loss"):
        old.pop(key)
    first.write_text(json.dumps(old))
    for other in others:
        other.write_text(json.dumps(json.loads(other.read_text()) | {"ops": None}))
    build(run, tmp_path / "out")
    assert "Not measured op by op" in words(page(tmp_path / "out"))


def test_every_step_has_its_record(tiny_run: Path, built: Path) -> None:
    section = page(built).split('<section id="provenance">')[1]
    for name, step in STEPS.items():
        if step.lenient or step.optional:
            continue
        record = json.loads((tiny_run / "provenance" / f"{name}.json").read_text())
        row = re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', section, re.S)
        assert row is not None
        for part in (record["code_version"], record["config_hash"][:10], f"{record['peak_rss_mib']:,}", str(record["seed"])):
            assert part in words(row[1])
        for path, digest in record["inputs"].items():
            assert f"{digest[:16]} {path}" in words(row[1])


def test_the_figures_are_images(built: Path) -> None:
    paths = sorted((built / "figures").iterdir())
    assert {path.stem for path in paths} == FIGURES
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == 960
            assert image.height >= 400
            assert len(image.convert("L").getcolors()) > 20


def test_the_same_run_gives_the_same_bytes(tiny_run: Path, built: Path, tmp_path: Path) -> None:
    build(tiny_run, tmp_path)
    files = [path.relative_to(built) for path in built.rglob("*") if path.is_file()]
    assert {str(path) for path in files} == {"report.html", *(f"figures/{name}.png" for name in FIGURES)}
    for path in files:
        assert (tmp_path / path).read_bytes() == (built / path).read_bytes()


def test_a_run_that_only_began_names_every_command(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_run / "run.yaml", tmp_path)
    build(tmp_path, tmp_path)
    text = words(page(tmp_path))
    assert "<svg" not in page(tmp_path)
    for name in ("profile", "predictor", "lut", "search_space", "export", "benchmark"):
        assert f"python -m spaceevo.{STEPS[name].command} run_dir={tmp_path}" in text
    assert not (tmp_path / "figures").exists()


def test_what_is_missing_leaves_the_rest(tiny_run: Path, tmp_path: Path) -> None:
    run = copy_run(tiny_run, tmp_path / "run", ("benchmark.parquet", "subnets.parquet", "lut.parquet", "host.json"))
    build(run, tmp_path / "out", ["experiment=tiny", "run_dir=r"])
    text = words(page(tmp_path / "out"))
    for name, step in (("benchmark.parquet", "benchmark"), ("subnets.parquet", "search_subnet"), ("lut.parquet", "lut")):
        assert f"{name} is not there" in text
        assert f"python -m spaceevo.{step} experiment=tiny run_dir=r" in text
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == FIGURES - {"prediction", "cloud"}


def test_text_is_text(tiny_run: Path, tmp_path: Path) -> None:
    run = copy_run(tiny_run, tmp_path / "run")
    for path in run.glob("models/*/card.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"name": HOSTILE, "encoding": HOSTILE}))
    for path, key in ((run / "run.yaml", "device.name"), (run / "latency/host.json", "cpu")):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: HOSTILE}))
    build(run, tmp_path / "out")
    markup = page(tmp_path / "out")
    assert "<script" not in markup
    assert "<b>alert" not in markup
    assert html.escape(HOSTILE, quote=False) in markup.replace("&#34;", '"')
    tooltips = re.findall(r"<title>(.*?)</title></use>|<title>(.*?)</title>", markup, re.S)
    assert sum(HOSTILE in html.unescape("".join(t)) for t in tooltips) >= len(cards_of(run))


def test_models_that_were_never_measured(tiny_run: Path, tmp_path: Path) -> None:
    run = copy_run(tiny_run, tmp_path / "run", ("benchmark.parquet",))
    timed = ("measured_ms", "quantiles_ms", "cold_ms", "fp32_ms", "fp32_quantiles_ms", "speedup")
    for path in run.glob("models/*/card.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | dict.fromkeys(timed)))
    build(run, tmp_path / "out")
    text = words(page(tmp_path / "out"))
    assert "it was not measured on the device" in text
    assert "exported: predicted ms, test" in text
    assert all(row[6] == "not measured" for row in model_rows(page(tmp_path / "out")))


def test_a_models_benchmark_counts_towards_its_limit(tiny_run: Path) -> None:
    card = cards_of(tiny_run)[0] | {"limit_ms": 1.0, "measured_ms": 0.9, "again_ms": None}
    assert within_limit(card) is True
    assert within_limit(card | {"again_ms": 1.1}) is False
    assert within_limit(card | {"measured_ms": None}) is None


def test_a_jobs_own_artifacts_come_first(tiny_run: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    (job / "latency").mkdir(parents=True)
    host = json.loads((tiny_run / "latency/host.json").read_text())
    (job / "latency/host.json").write_text(json.dumps(host | {"cpu": "the job's own"}))
    data = load_run([job, tiny_run], SHOWN)
    assert data.host is not None
    assert data.host["cpu"] == "the job's own"
    assert len(data.cards) == len(cards_of(tiny_run))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"run_dir={tmp_path}: no run.yaml")):
        build(tmp_path, tmp_path)


def test_the_table_shows_the_best_window(tiny_run: Path) -> None:
    hs = load_hyperspace("tiny")
    table = load_table(tiny_run / "lut.parquet", hs)
    rows = table_cells(pd.read_parquet(tiny_run / "lut.parquet"), hs, None)
    assert [len(row) for row in rows] == [len(hs.blocks)] * len(hs.stages)
    for s, row in enumerate(rows):
        for t, cell in enumerate(row):
            windows = [
                np.mean(np.concatenate([table.nsr[s, t, w, r] for r in table.resolutions])) for w in range(hs.stages[s].windows)
            ]
            assert cell.nsr == pytest.approx(min(windows))
            assert cell.widths == hs.stages[s].window_widths(int(np.argmin(windows)))
        assert {0.0, 1.0} <= {cell.shade for cell in row}


@settings(max_examples=60)
@given(st.floats(1e-4, 1e6), st.sampled_from([2, 3, 4]))
def test_numbers_keep_their_value(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) * 1.001)
    assert "e" not in text


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (significant, None, "–"),  # noqa: RUF001
        (significant, 0.04, "0.0400"),
        (significant, -13.745, "\N{MINUS SIGN}13.7"),
        (count, 950, "950"),
        (count, 16458, "16.5 k"),
        (count, 1.5e13, "15,000 G"),
        (size, 52214, "51.0 KiB"),
        (size, 3 * 2**20, "3.00 MiB"),
        (seconds, 4.25, "4.2 s"),
        (seconds, 199.6, "3 min 20 s"),
        (seconds, 7500, "2 h 5 min"),
    ],
)
def test_units(unit: Callable[[float | None], str], value: float | None, text: str) -> None:
    assert unit(value) == text
