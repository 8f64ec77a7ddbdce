"""The code in a model's README runs, and gives the reference's integers of ten image files."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from deploy.nets import QUANTIZER, random_net
from PIL import Image

from spaceevo.data import load_data
from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import NORMALIZED, PIXELS
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.inputs import AtSize, shown
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import load_integer
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.readme import readme
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph
from spaceevo.steps.verify import claimed_data

LABELS = ["nought", "Eins ä", *"23456789"]
NPM_S = 300  # for npm to fetch onnxruntime-web


@dataclass(frozen=True)
class Folder:
    """A model's folder, image files, and what the reference gives of them: logits ``[N, classes]``."""

    path: Path
    images: list[Path]
    pixels: np.ndarray  # uint8 [N, C, R, R], as the files take them
    expected: np.ndarray
    labels: Sequence[str]
    output: str

    @property
    def text(self) -> str:
        return (self.path / "README.md").read_text()

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)

    def same(self, given: np.ndarray) -> None:
        """Logits that are the reference's, or the softmax of these."""
        if self.output == "logits":
            np.testing.assert_array_equal(given, self.expected)
        else:
            np.testing.assert_allclose(given, torch.from_numpy(self.expected).softmax(1).numpy(), atol=1e-6)


def files_of(images: torch.Tensor, folder: Path) -> list[Path]:
    """Image files of uint8 ``[N, C, H, W]``."""
    paths = []
    for i, image in enumerate(images.numpy()):
        paths.append(folder / f"{i}.png")
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(paths[-1])
    return paths


#: Channels, what the files take and give, float_io, pixels of an image file's side (the model's are 12).
CASES = [
    (1, PIXELS, "logits", False, 12),
    (3, PIXELS, "logits", True, 16),
    (3, PIXELS, "probabilities", False, 28),
    (1, NORMALIZED, "logits", False, 12),
    (3, NORMALIZED, "logits", True, 12),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return a_folder(request.param, tmp_path, QUANTIZER)


def a_folder(case: tuple[int, str, str, bool, int], tmp_path: Path, quantizer: Quantizer) -> Folder:
    """A model of random weights, as it leaves."""
    channels, kind, output, float_io, size = case
    space = SearchSpace.parse("tiny-0120-1111", load_hyperspace("tiny").with_task(channels=channels, classes=10))
    graph = subnet_graph(Subnet.smallest(space))
    data = DataConfig(channels=channels, mean=[0.0] * channels, std=[1.0] * channels)
    given, rng = FileInput.of(kind, data, graph.input.hw), np.random.default_rng(1)
    images = torch.from_numpy(rng.integers(0, 256, (10, channels, size, size), np.uint8))
    seen = shown(images, data, given)
    net, stats = random_net(graph, 0, quantizer)
    model = integer_model(net, graph, stats, quantizer)
    (tmp_path / "model.onnx").write_bytes(write_int8(model, 1, LABELS, given, output != "logits"))
    tflite = write_tflite(model, float_io, LABELS, given=given, probabilities=output != "logits")
    (tmp_path / "model.tflite").write_bytes(tflite)
    card = dict(name="x", labels=LABELS, top1_runtime=9.5, measured_ms=0.01, host=dict(cpu="a CPU"), output=output)
    told = dict(input=given.claims(), activations=quantizer.activations)
    page = readme(card | told, model.qparams["input"], float_io)
    (tmp_path / "README.md").write_text(page)
    expected = run_integer(model, AtSize(seen.normalized, given.hw))
    pixels = shown(images, data, FileInput.of(PIXELS, data, given.hw)).fed[:]
    return Folder(tmp_path, files_of(images, tmp_path), pixels, expected, LABELS, output)


@pytest.fixture(params=[0, 1])
def exported(request: pytest.FixtureRequest, tiny_run: Path, tmp_path: Path) -> Folder:
    """A model of the tiny run, and ten images of the test set as files."""
    path = sorted(tiny_run.glob("models/*/card.json"))[request.param].parent
    card = json.loads((path / "card.json").read_text())
    data = claimed_data(DataConfig(), card["data"], "card.json")
    images = load_data(data, test=True).test
    assert images is not None
    seen = shown(images[:10], data, FileInput.read(card["input"]))
    expected = run_integer(load_integer(path / "model.safetensors"), AtSize(seen.normalized, card["resolution"]))
    return Folder(path, files_of(images[:10], tmp_path), seen.fed[:], expected, card["labels"], card["output"])


def run_python(folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Both programs as they stand: the labels that they print, and the scores."""
    prepared, *programs = folder.blocks("python")
    assert len(programs) == 2
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(sys, "argv", ["classify", *map(str, folder.images)])
    for program in programs:
        names: dict[str, Any] = {}
        exec(compile(f"{prepared}\n{program}", "README.md", "exec"), names)
        folder.same(np.stack([names["scores"](path) for path in folder.images]))
        lines = [f"{path} {folder.labels[best]} " for path, best in zip(folder.images, folder.expected.argmax(1), strict=True)]
        printed = capsys.readouterr().out.splitlines()
        assert [line[: len(start)] for line, start in zip(printed, lines, strict=True)] == lines


def test_python_gives_the_references_integers(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(folder, monkeypatch, capsys)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: "-".join(map(str, case)))
def test_python_gives_the_references_integers_of_a_symmetric_model(
    case: tuple[int, str, str, bool, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_folder(case, tmp_path, Quantizer(QUANTIZER.weight_bits, "symmetric"))
    run_python(folder, monkeypatch, capsys)
    test_the_page_is_whole(folder)


def test_python_gives_an_exported_models_integers(
    exported: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len({tuple(row) for row in exported.expected.tolist()}) == 10
    run_python(exported, monkeypatch, capsys)


def test_the_page_is_whole(folder: Folder) -> None:
    assert "{{" not in folder.text.replace("{{0", "") and "{%" not in folder.text
    assert [len(folder.blocks(language)) for language in ("python", "cpp", "kotlin", "javascript")] == [3, 1, 1, 1]
    assert all(block.count(a) == block.count(b) for block in folder.blocks("kotlin") for a, b in ("()", "{}", "[]"))


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-web in it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    folder = tmp_path_factory.mktemp("web")
    line = ["npm", "install", "--silent", "--no-audit", "--no-fund", "onnxruntime-web@1"]
    try:
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=NPM_S)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not fetch onnxruntime-web in time")
    if done.returncode:
        pytest.skip(f"npm could not fetch onnxruntime-web: {done.stderr[-200:]}")
    return folder


def rgba(folder: Folder) -> bytes:
    """Ten images as a canvas gives them."""
    images = np.full((10, 12, 12, 4), 255, np.uint8)
    images[..., :3] = folder.pixels.transpose(0, 2, 3, 1)
    return images.tobytes()


@pytest.mark.slow
def test_javascript_gives_the_references_integers(folder: Folder, web: Path) -> None:
    (web / "scores.mjs").write_text(folder.blocks("javascript")[0])
    (folder.path / "images.bin").write_bytes(rgba(folder))
    (web / "main.mjs").write_text(
        """
        import fs from "node:fs";
        import * as ort from "onnxruntime-web";
        import { scores } from "./scores.mjs";
        const [model, images] = process.argv.slice(2).map(path => fs.readFileSync(path));
        const session = await ort.InferenceSession.create(model), size = 12 * 12 * 4;
        for (let i = 0; i < 10; i++) {
          const data = new Uint8ClampedArray(images.subarray(i * size, (i + 1) * size));
          console.log(JSON.stringify(Array.from(await scores(session, { data }))));
        }
        """
    )
    line = ["node", "main.mjs", str(folder.path / "model.onnx"), str(folder.path / "images.bin")]
    done = subprocess.run(line, cwd=web, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    folder.same(np.array([json.loads(text) for text in done.stdout.splitlines()], np.float32))


@pytest.fixture
def served(web: Path) -> Iterator[str]:
    """The address at which the folder ``web`` is served to this machine."""
    handler = functools.partial(QuietHandler, directory=str(web))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Says nothing of what is asked for, and what a module and WebAssembly are."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.browser
def test_javascript_in_a_page_gives_the_references_integers(folder: Folder, web: Path, served: str, browser: Any) -> None:
    (web / "scores.mjs").write_text(folder.blocks("javascript")[0])
    (web / "images.bin").write_bytes(rgba(folder))
    shutil.copy(folder.path / "model.onnx", web / "model.onnx")
    (web / "page.html").write_text(
        """<!doctype html><meta charset="utf-8"><title>waiting</title>
        <script type="importmap">
        {"imports": {"onnxruntime-web": "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"}}
        </script>
        <script type="module">
        import * as ort from "onnxruntime-web";
        import { scores, toImage } from "./scores.mjs";
        ort.env.wasm.numThreads = 1;
        const images = new Uint8ClampedArray(await (await fetch("images.bin")).arrayBuffer());
        const session = await ort.InferenceSession.create("model.onnx"), given = [], read = [];
        for (let i = 0; i < 10; i++) {
          const image = new ImageData(images.slice(i * 576, (i + 1) * 576), 12, 12), canvas = new OffscreenCanvas(12, 12);
          given.push(Array.from(await scores(session, image)));
          canvas.getContext("2d").putImageData(image, 0, 0);
          read.push(Array.from(await scores(session, await toImage(await canvas.convertToBlob()))));
        }
        [window.given, window.read, document.title] = [given, read, "done"];
        </script>"""
    )
    browser.get(f"{served}/page.html")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda page: page.title == "done")
    for found in ("given", "read"):  # of ImageData, and of a PNG of the model's size, as a user would choose it
        folder.same(np.array(browser.execute_script(f"return window.{found}"), np.float32))


#: onnxruntime's headers, which Debian 12 does not have: Debian 13's package. Programs made with them run with later libraries.
HEADERS = "http://deb.debian.org/debian/pool/main/o/onnxruntime/libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb"


@pytest.fixture(scope="session")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of onnxruntime's C++ header: ``$ONNXRUNTIME_INCLUDE``, Debian's package, or that fetched."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    folder = tmp_path_factory.mktemp("headers")
    places = [Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/")), Path("/usr/include/onnxruntime")]
    for place in places:
        if (place / "onnxruntime_cxx_api.h").is_file():
            return place
    if shutil.which("dpkg") is None:
        pytest.skip("no onnxruntime_cxx_api.h here (ONNXRUNTIME_INCLUDE=<folder>), and no dpkg")
    try:
        with urllib.request.urlopen(HEADERS, timeout=60) as answer:
            (folder / "headers.deb").write_bytes(answer.read())
    except OSError as error:
        pytest.skip(f"no onnxruntime_cxx_api.h here (ONNXRUNTIME_INCLUDE=<folder>), and Debian's cannot be fetched: {error}")
    subprocess.run(["dpkg", "-x", "headers.deb", "."], cwd=folder, check=True, timeout=60)
    return folder / "usr/include/onnxruntime"


@pytest.mark.slow
def test_cpp_gives_the_references_integers(folder: Folder, include: Path, tmp_path: Path) -> None:
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (tmp_path / "classify.cpp").write_text(folder.blocks("cpp")[0])
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)  # the name that the loader asks for
    line = ["g++", "-std=c++17", "classify.cpp", f"-I{include}", str(library), f"-Wl,-rpath,{tmp_path}", "-o", "classify"]
    subprocess.run(line, cwd=tmp_path, check=True, timeout=300)
    files = []
    for i, image in enumerate(folder.pixels.transpose(0, 2, 3, 1)):
        files.append(f"{i}.pnm")
        kind, shape = ("P5" if image.shape[2] == 1 else "P6"), image.shape
        (tmp_path / files[-1]).write_bytes(f"{kind}\n{shape[1]} {shape[0]}\n255\n".encode() + image.tobytes())
    done = subprocess.run(["./classify", "model.onnx", *files], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    given = np.array([line.split() for line in done.stdout.splitlines()], float)
    np.testing.assert_allclose(given, folder.expected if folder.output == "logits" else given, rtol=1e-5)
    assert given.argmax(1).tolist() == folder.expected.argmax(1).tolist()
