"""The study's page and words, of rows that say what they are to say."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spaceevo.deploy.studied import MODELS, OPS, WIDTHS
from spaceevo.report.studied import pairs, study_table, words_of_models, words_of_ops
from spaceevo.report.study_page import build_study
from spaceevo.space import graph_cost
from spaceevo.space.imagenet import IMAGENET, imagenet_graph
from spaceevo.space.published import table_1

HOSTILE = '<script>alert("x")</script> $x^2$ & --><b>'
BEYOND = 0.5  # ms of a call beside its ops
HOST: dict[str, Any] = dict(
    device="host", cpu="a CPU", flags=["avx2"], cores=2, ram_gib=4.0, system="Linux x86_64", threads=1, weight_bits=8,
    runtime="litert", rounds=4, runs=2, versions={"numpy": "2"}, before=dict(governor=None, celsius=None, load=0.5),
    after=dict(governor=None, celsius=None, load=0.25),
)  # fmt: skip


def rows_of(figure: str, name: str, ms: dict[str, list[float]], **facts: Any) -> list[dict[str, Any]]:
    """The rows of a subject whose latency is ``ms`` in each round; of an op, of one op of the chain."""
    more = dict(channels=None, resolution=28, mmacs=1.0, params=1, images=None, top1=None, top1_fp32=None) | facts
    found = []
    for precision, rounds in ms.items():
        for length in (1,) if figure == MODELS else (1, 9):
            taken = np.array(rounds) * length + (0 if figure == MODELS else BEYOND)
            row = dict(figure=figure, name=name, precision=precision, length=length, ms=float(np.median(taken)))
            spread = dict(min=taken.min(), p10=taken.min(), p50=np.median(taken), p90=taken.max(), calls=8, bytes=100)
            found.append(row | spread | dict(round_ms=list(taken)) | more)
    return found


def model(name: str, int8: float, fp32: float) -> list[dict[str, Any]]:
    paper = next(iter(table_1(name).values()), {})
    known = dict(images="imagenet", top1=paper["int8_top1"], top1_fp32=paper["fp32_top1"]) if paper else {}
    mmacs = graph_cost(imagenet_graph(name)).mmacs if name in IMAGENET else paper["mmacs"]
    return rows_of(MODELS, name, dict(int8=[int8] * 4, fp32=[fp32] * 4), mmacs=mmacs, resolution=224, **known)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    ops = [
        *rows_of(OPS, "conv", dict(int8=[1, 1.1, 1, 0.9], fp32=[3, 3, 3.1, 3]), channels=96),
        *rows_of(OPS, "swish", dict(int8=[2, 2, 2.1, 2], fp32=[1, 1, 1, 1.1]), channels=96),
        *rows_of(OPS, "se", dict(int8=[1, 1, 1, 1], fp32=[0.7, 1.2, 1.3, 0.9]), channels=96),
        *rows_of(OPS, "hswish", dict(int8=[0.01, -0.2, 0.1, 0], fp32=[1, 1, 1, 1]), channels=96),
    ]
    widths = [
        *rows_of(WIDTHS, "conv1x1-8", dict(int8=[1] * 4, fp32=[0.9] * 4), channels=8),
        *rows_of(WIDTHS, "conv1x1-64", dict(int8=[1] * 4, fp32=[4] * 4), channels=64),
    ]
    models = [
        *model("mobilenet_v3_small", 1, 1.1), *model("mobilenet_v2", 4, 8), *model("efficientnet_b0", 18, 28),
        *model("resnet18", 12, 48), *model("SEQnet@vnni-A0", 3, 6), *model("SEQnet@vnni-A2", 20, 50),
        *rows_of(MODELS, "host-1ms", dict(int8=[0.1] * 4), images="digits", top1=91.25, top1_fp32=91.5, mmacs=2.0),
    ]  # fmt: skip
    return pd.DataFrame([*ops, *widths, *models])


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def test_an_ops_latency_is_what_the_longer_chain_takes_more(frame: pd.DataFrame) -> None:
    found = {pair.name: pair for pair in pairs(frame)}
    assert found["conv"].int8_ms == pytest.approx(1.0) and found["conv"].fp32_ms == pytest.approx(3.0)
    assert found["conv"].speedup == pytest.approx(3.0) and 2.7 < found["conv"].low < 3.0 < found["conv"].high < 3.4
    assert found["mobilenet_v2"].speedup == found["mobilenet_v2"].low == 2.0
    assert math.isnan(found["host-1ms"].speedup) and math.isnan(found["host-1ms"].low)
    assert found["host-1ms"].facts["channels"] is None


def test_int8_pays_or_not_where_most_rounds_say_so(frame: pd.DataFrame) -> None:
    verdicts = {pair.name: pair.verdict for pair in pairs(frame) if pair.figure == OPS}
    assert verdicts == {"conv": "INT8 pays", "swish": "INT8 is slower", "se": "no difference", "hswish": "not told"}
    lines = words_of_ops(pairs(frame))
    assert lines[0].startswith("INT8 does not pay for swish (0.50 times the speed of FP32, 0.4")
    assert [line.split(" for ")[0] for line in lines[1:2]] == ["INT8 makes no difference that can be told"]
    assert lines[2].startswith("the noise tells nothing of hswish") and lines[3].startswith("INT8 pays for conv (3.00 times")
    assert lines[4] == ("1x1 convolutions: 0.90 times the speed of FP32 at 8 channels, 4.00 times at 64; not told to pay at 8")


def test_who_wins_within_what_latency(frame: pd.DataFrame) -> None:
    assert words_of_models(pairs(frame)) == [
        "the most accurate in INT8 within a latency, of 5 with an accuracy in Table 1: "
        "from 1.00 ms mobilenet_v3_small (66.3 %), "
        "from 3.00 ms SEQnet@vnni-A0 (74.7 %), from 18.0 ms efficientnet_b0 (76.7 %), from 20.0 ms SEQnet@vnni-A2 (78.5 %)",
        "within the 1.00 ms of mobilenet_v3_small (66.3 %) there is no SEQnet",
        "within the 4.00 ms of mobilenet_v2 (71.4 %) SEQnet wins: SEQnet@vnni-A0 has 74.7 % at 3.00 ms, +3.3 points",
        "within the 18.0 ms of efficientnet_b0 (76.7 %) efficientnet_b0 wins: SEQnet@vnni-A0 has 74.7 % at 3.00 ms, "
        "\N{MINUS SIGN}2.0 points",
        "INT8 speed-up of SEQnet models: 2.00 to 2.50 times",
        "INT8 speed-up of the other networks: 1.10 to 4.00 times",
        "in INT8 resnet18 is faster, as in the paper's figure 1(b): 12.0 ms, efficientnet_b0 18.0 ms",
    ]


def test_without_an_accuracy_nobody_wins(frame: pd.DataFrame) -> None:
    few = pairs(frame[frame.name.isin(["resnet18", "host-1ms"])])
    assert words_of_models(few) == ["INT8 speed-up of the other networks: 4.00 to 4.00 times"]
    assert words_of_ops(few) == []


def test_the_table_has_a_line_a_subject(frame: pd.DataFrame) -> None:
    lines = study_table(pairs(frame)).splitlines()[2:]
    assert len(lines) == frame.groupby(["figure", "name"]).ngroups
    assert lines[0].split() == ["2a", "conv", "1.00", "3.00", "3.00", lines[0].split()[5], "-", "INT8", "pays"]
    assert lines[-1].split() == ["1", "host-1ms", "0.100", "-", "-", "-", "91.2", "not", "told"]


@pytest.fixture(scope="module")
def built(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    build_study(frame, HOST, folder)
    return folder


def test_the_page_holds_all_of_it(frame: pd.DataFrame, built: Path) -> None:
    markup = (built / "study.html").read_text()
    assert "http-equiv" in markup and not re.search(r"<script|<link|src=\"(?!data:)", markup)
    text = words(markup)
    for line in [*words_of_ops(pairs(frame)), *words_of_models(pairs(frame))]:
        assert line[1:] in text
    assert "What INT8 brings on a CPU in litert" in text and "71.4 % 72.0 %, imagenet 7.3 ms 2.2× 16.5 ms 1.9×" in text  # noqa: RUF001
    assert "91.25 % 91.50 %, digits" in text


def test_the_figures_have_a_mark_a_subject(built: Path) -> None:
    markup = (built / "study.html").read_text()
    for name in ("ops", "widths", "models", "accuracies"):
        assert f'<figure id="figure-{name}">' in markup
        with Image.open(built / f"figures/{name}.png") as image:
            assert image.format == "PNG" and image.width == 960 and len(image.convert("L").getcolors()) > 20
    series = {"ops": 3, "widths": 2, "accuracies-ours": 2, "accuracies-others": 3}  # of hswish nothing is told
    marks = {name: re.findall(rf'<g id="{name}".*?</g>', markup, re.S)[0].count("<use") for name in series}
    assert marks == series
    assert len(re.findall(r'<g id="model-(?:int8|fp32)-', markup)) == 14


def test_a_study_of_ops_alone_has_a_page_which_is_always_the_same(frame: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_study(frame[frame.figure != MODELS], HOST, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert [str(path) for path in files] == ["figures/ops.png", "figures/widths.png", "study.html"]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)
    assert "Whole models" not in (tmp_path / "one/study.html").read_text()


def test_text_is_text_and_another_network_than_the_tables_is_marked(frame: pd.DataFrame, tmp_path: Path) -> None:
    changed = frame.replace({"name": {"host-1ms": HOSTILE}})
    changed.loc[changed.name == "SEQnet@vnni-A0", "mmacs"] *= 1.05
    assert [pair.name for pair in pairs(changed) if pair.other] == ["SEQnet@vnni-A0"]
    build_study(changed, {**HOST, "cpu": HOSTILE}, tmp_path)
    markup = (tmp_path / "study.html").read_text()
    assert "<script" not in markup and "<b>alert" not in markup
    assert html.escape(HOSTILE, quote=False) in markup.replace("&#34;", '"')
    assert "SEQnet@vnni-A0 *" in words(markup) and "SEQnet@vnni-A2 *" not in words(markup)
