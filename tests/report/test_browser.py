"""The report in a real browser: drawn, readable at both widths and in both themes, and nothing leaves the page."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from report.building import build

from spaceevo.report import search_figures
from spaceevo.report.drawing import style, to_svg
from spaceevo.report.page import render
from spaceevo.space import SearchSpace, load_hyperspace
from spaceevo.steps import STEPS

pytestmark = pytest.mark.browser

FIGURES = ("accuracy", "prediction", "evolution", "space", "cloud", "types", "widths", "blocks", "time", "tau", "confusion")
#: Every text on the page with its ratio of contrast to what lies behind it.
CONTRASTS = """
const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1]; };
const mix = (over, under) => over.slice(0, 3).map((c, i) => c * over[3] + under[i] * (1 - over[3]));
const behind = e => {
  const layers = [];
  for (; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
  return layers.reduce((under, over) => mix(over, under), [255, 255, 255]);
};
const light = c => {
  const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const holdsText = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
return [...document.querySelectorAll('body *')].filter(e => holdsText(e) && e.localName !== 'title').map(e => {
  const style = getComputedStyle(e), back = behind(e);
  const ink = mix(rgba(e.localName === 'text' ? style.fill : style.color), back);
  const [a, b] = [light(ink), light(back)];
  return [e.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
});
"""
#: Of every figure: its box, and each text's box and size in pixels.
TEXTS = """
return [...document.querySelectorAll('figure:has(svg)')].map(f => {
  const svg = f.querySelector('svg'), box = r => [r.left, r.top, r.right, r.bottom];
  return [f.id, box(svg.getBoundingClientRect()), [...svg.querySelectorAll('text')].map(t => {
    const m = t.getScreenCTM();
    return [t.textContent, box(t.getBoundingClientRect()), parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b)];
  })];
});
"""


@pytest.fixture(scope="module")
def report(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    build(tiny_run, out)
    return out / "report.html"


def show(browser: Any, path: Path, width: int = 1280, theme: str = "light") -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [dict(name="prefers-color-scheme", value=theme)]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=features))
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda page: page.execute_script("return document.readyState") == "complete")


def marks(browser: Any, series: str) -> int:
    """How many marks of a series have an area on the page."""
    script = """
    const marks = [...document.getElementById(arguments[0]).querySelectorAll('use')];
    return marks.map(m => m.getBoundingClientRect()).filter(r => r.width > 0 && r.height > 0).length;
    """
    return browser.execute_script(script, series)


def test_it_loads_alone_and_without_complaint(browser: Any, report: Path) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    show(browser, report)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("data:")] == [report.as_uri()]  # pictures are within the page
    resources = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [url for url in resources if not url.startswith("data:")] == []
    pictures = (
        "return [...document.images].map(i => i.complete && i.naturalWidth > 300 && i.getBoundingClientRect().width > 300)"
    )
    assert browser.execute_script(pictures) == [True, True]
    assert browser.get_log("browser") == []


def test_every_row_is_a_mark(browser: Any, report: Path, tiny_run: Path) -> None:
    show(browser, report)
    cards = list(tiny_run.glob("models/*/card.json"))
    assert marks(browser, "accuracy-exported") == len(cards)
    assert marks(browser, "accuracy-search") == len(pd.read_parquet(tiny_run / "subnets.parquet"))
    benchmark = pd.read_parquet(tiny_run / "benchmark.parquet").kind.value_counts()
    assert {kind: marks(browser, f"prediction-{kind}") for kind in benchmark.index} == benchmark.to_dict()
    history = pd.read_parquet(tiny_run / "search_space.parquet").mutation.value_counts()
    assert {mutation: marks(browser, f"qt-{mutation}") for mutation in history.index} == history.to_dict()
    kernels = pd.read_parquet(tiny_run / "latency/kernels.parquet")
    blocks = kernels[(kernels.kind == "block") & (kernels.precision == "int8")]
    hs = load_hyperspace("tiny")
    types = blocks.spec.map(lambda spec: hs.blocks[int(spec.split(":")[1])].type).value_counts()
    assert {name: marks(browser, f"blocks-{name}") for name in types.index} == types.to_dict()
    space = SearchSpace.parse(yaml.safe_load((tiny_run / "space.yaml").read_text())["space"], hs)
    for stage, spec in zip(space.stages, hs.stages, strict=True):
        assert marks(browser, f"space-{stage.name}-all") == len(spec.widths)
        assert marks(browser, f"space-{stage.name}-window") == len(stage.widths)
        assert marks(browser, f"space-{stage.name}-types-all") == len(spec.types)
        assert marks(browser, f"space-{stage.name}-types-chosen") == 1
        said = browser.execute_script("return document.getElementById(arguments[0]).textContent", f"space-{stage.name}")
        assert said.strip().startswith(stage.block.type)


def test_lines_and_bars_are_where_their_values_are(browser: Any, report: Path, tiny_run: Path) -> None:
    show(browser, report)
    box = "const r = document.getElementById(arguments[0]).getBoundingClientRect(); return [r.left, r.right, r.width, r.height]"
    limits = sorted({json.loads(path.read_text())["limit_ms"] for path in tiny_run.glob("models/*/card.json")})
    at = [browser.execute_script(box, f"accuracy-limit-{i}") for i in range(len(limits))]
    assert all(height > 100 for *_, height in at)
    assert [left for left, *_ in at] == sorted(left for left, *_ in at)
    assert browser.execute_script(box, "qt-best")[2] > 300
    assert browser.execute_script(box, "qt-spread")[3] > 30
    assert browser.execute_script(box, "prediction-band")[3] > 50
    names = [name for name, step in STEPS.items() if not step.lenient and not step.optional]
    wall = {name: json.loads((tiny_run / f"provenance/{name}.json").read_text())["wall_s"] for name in names}
    widths = {name: browser.execute_script(box, f"time-{name}")[2] for name in names}
    longest = max(wall, key=wall.__getitem__)
    for name in names:
        assert widths[name] / widths[longest] == pytest.approx(wall[name] / wall[longest], abs=0.02)


def test_tooltips_name_the_models(browser: Any, report: Path, tiny_run: Path) -> None:
    show(browser, report)
    script = "return [...document.querySelectorAll('#accuracy-exported use > title')].map(t => t.textContent)"
    said = browser.execute_script(script)
    for path in tiny_run.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert any(card["encoding"] in text and f"{card['top1_runtime']:.2f} %" in text for text in said)


@pytest.fixture(scope="module")
def sweep(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep over two devices that have the published hyperspaces."""
    rng = np.random.default_rng(0)
    hyperspaces = {"intel_vnni": load_hyperspace("onnxw"), "pixel4": load_hyperspace("mobilew")}
    spaces = {device: [SearchSpace.sample(hs, rng) for _ in range(9)] for device, hs in hyperspaces.items()}
    frame = pd.DataFrame(
        dict(latency=["tight", "tight", "loose"], device=list("aab"), score=[-1.0, -1.2, -0.5], space="x" * 90)
    )
    with style():
        drawings = {
            "outcomes": search_figures.outcomes(frame, ["latency", "device"], "score", "Q-T score"),
            "types": search_figures.block_preferences(spaces),
            "widths": search_figures.width_preferences(spaces),
            "space": search_figures.found_space(spaces["pixel4"][0]),
        }
        svgs = {name: (drawing.label, to_svg(drawing, name)) for name, drawing in drawings.items()}
    page = tmp_path_factory.mktemp("sweep") / "sweep.html"
    values = dict(title="search_space", frame=frame.to_dict("records"), keys=["latency"], svgs=svgs, failed=[])
    page.write_text(render("sweep.html", **values))
    return page


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("which", ["report", "sweep"])
def test_it_is_readable(browser: Any, which: str, width: int, request: pytest.FixtureRequest) -> None:
    show(browser, request.getfixturevalue(which), width)
    names = FIGURES if which == "report" else ("outcomes", "types", "widths", "space")
    scroll, client = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert scroll <= client
    assert width - 20 <= client <= width  # a scroll bar may take some
    shown = browser.execute_script(TEXTS)
    assert {name for name, *_ in shown} == {f"figure-{name}" for name in names}
    for name, (left, top, right, bottom), texts in shown:
        assert right - left > 0.8 * min(width - 40, 500)
        assert right <= width
        for text, (x0, y0, x1, y1), size in texts:
            assert size >= 8, (name, text)
            inside = left - 1 <= x0 < x1 <= right + 1 and top - 1 <= y0 < y1 <= bottom + 1
            assert inside, (name, text)
        for (one, a, _), (other, b, _) in combinations(texts, 2):
            overlap = min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 3
            assert not overlap, (name, one, other)


@pytest.mark.parametrize("width", [1280, 1200])
def test_the_table_of_models_fits_a_laptop(browser: Any, report: Path, width: int) -> None:
    show(browser, report, width)
    inner, outer = browser.execute_script(
        "const e = document.querySelector('#models .scroll'); return [e.scrollWidth, e.clientWidth]"
    )
    assert 1000 < inner <= outer <= width


def test_axes_are_named_with_units(browser: Any, report: Path) -> None:
    show(browser, report)
    said = {name: {text for text, *_ in texts} for name, _, texts in browser.execute_script(TEXTS)}
    expected = {
        "accuracy": {"latency, ms", "top-1, %"},
        "prediction": {"measured, ms", "predicted, ms"},
        "evolution": {"search space, in order of birth", "Q-T score"},
        "space": {"width, channels"},
        "cloud": {"predicted latency, ms", "NSR sum, better upwards"},
        "widths": {"width window, from narrowest (0) to widest (1)"},
        "blocks": {"speed-up of INT8 over FP32"},
        "time": {"wall time, s"},
        "confusion": {"is", "taken for"},
    }
    for name, labels in expected.items():
        assert labels <= said[f"figure-{name}"]


@pytest.mark.parametrize(("theme", "bright"), [("light", True), ("dark", False)])
def test_text_stands_out_in_both_themes(browser: Any, report: Path, theme: str, bright: bool) -> None:
    show(browser, report, theme=theme)
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in color.removeprefix("rgb(").rstrip(")").split(","))
    assert (red + green + blue > 600) == bright
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) > 150
    assert [pair for pair in contrasts if pair[1] < 4.5] == []


@pytest.mark.parametrize("width", [1280, 400])
def test_latency_is_in_tables_that_stay_on_the_page(browser: Any, report: Path, tiny_run: Path, width: int) -> None:
    """Every part of every model, once it is opened; tables that are wider than a phone scroll within themselves."""
    from selenium.webdriver.common.keys import Keys

    show(browser, report, width)
    models = len(list(tiny_run.glob("models/*/card.json")))
    summaries = browser.find_elements("css selector", "details.timing > summary")
    assert len(summaries) == models
    for summary in summaries:
        if summary.find_element("xpath", "..").get_attribute("open") is None:
            summary.send_keys(Keys.ENTER)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#latency table')].map(t => [t.rows.length, t.getBoundingClientRect().width, "
        "t.parentElement.getBoundingClientRect().right])"
    )
    assert len(shown) == 2 + 2 * models
    assert all(rows > models and wide > 150 and right <= width for rows, wide, right in shown)
    scroll, client = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert scroll <= client
    advice = browser.find_element("css selector", "#latency .advice")
    assert advice.is_displayed() and advice.text.startswith("On host (")


@pytest.mark.parametrize("width", [1280, 400])
def test_every_card_opens_by_keyboard_and_stays_on_the_page(browser: Any, report: Path, tiny_run: Path, width: int) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, report, width)
    summaries = browser.find_elements("css selector", "details.card > summary")
    assert len(summaries) == len(list(tiny_run.glob("models/*/card.json")))
    for summary in summaries:
        if summary.find_element("xpath", "..").get_attribute("open") is None:
            summary.send_keys(Keys.ENTER)
    opened = "return [...document.querySelectorAll('details.card')].map(e => e.open)"
    assert all(browser.execute_script(opened))
    scroll, client = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert scroll <= client
    bars = (
        "return [...document.querySelectorAll('.ops td.bar')].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    shown = browser.execute_script(bars)
    assert len(shown) > 40 and all(w > 60 and h > 12 for w, h in shown)
    summaries[0].send_keys(Keys.ENTER)
    assert browser.execute_script(opened)[0] is False
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector('details.card > summary')).outlineStyle")
        != "none"
    )
