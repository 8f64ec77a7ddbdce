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

from spaceevo.errors import UserError
from spaceevo.evolution import load_table
from spaceevo.report.data import load_run, table_cells, within_limit
from spaceevo.report.figures import significant
from spaceevo.report.page import count, points, seconds, size
from spaceevo.space import load_hyperspace
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
