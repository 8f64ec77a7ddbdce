"""``make portability``: what runtimes that this project does not ship for make of a finished run's INT8 files.

Every model's file runs over the first test images, one at a time, in each of them, and its output integers are compared with
the reference's. A runtime is installed into a folder of its own and runs in a process of its own; one that cannot be had is
skipped, and why is told.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PATIENCE_S = 1200  # for an installation, and for one model's images
WEB = """
import fs from "node:fs";
import * as ort from "onnxruntime-web";
const [model, images, shape, pixels, out] = process.argv.slice(2), dims = JSON.parse(shape);
const session = await ort.InferenceSession.create(fs.readFileSync(model)), bytes = fs.readFileSync(images);
const Kind = pixels === "true" ? Uint8Array : Float32Array, size = dims[1] * dims[2] * dims[3];
const all = new Kind(bytes.buffer, bytes.byteOffset, bytes.length / Kind.BYTES_PER_ELEMENT), given = [];
for (let i = 0; i < dims[0]; i++) {
  const values = all.slice(i * size, (i + 1) * size);
  const image = new ort.Tensor(pixels === "true" ? "uint8" : "float32", values, [1, ...dims.slice(1)]);
  given.push(Float32Array.from((await session.run({ input: image })).logits.data));
}
fs.writeFileSync(out, Buffer.concat(given.map(row => Buffer.from(row.buffer))));
"""
ARENA = re.compile(r"Arena allocation total (\d+) bytes")


class Absent(Exception):
    """Why a runtime cannot be had, in a line."""


@dataclass(frozen=True)
class Elsewhere:
    """A runtime: the ``file`` of a model that it reads, the ``packages`` that bring it (PyPI's; npm's for node), and how it
    runs the file at a path over images ``[N, C, R, R]``, giving logits ``[N, classes]``; None: in node."""

    file: str
    packages: Sequence[str]
    run: Callable[[Path, np.ndarray], np.ndarray] | None


def in_openvino(path: Path, images: np.ndarray) -> np.ndarray:
    from spaceevo.latency.runtimes import ov

    return ov.run_batches(ov.load(path), images)


def in_tflite_micro(path: Path, images: np.ndarray) -> np.ndarray:
    """Its kernels in C, which print their arena."""
    import tflite_micro

    interpreter = tflite_micro.runtime.Interpreter.from_file(str(path))
    x, y = interpreter.get_input_details(0), interpreter.get_output_details(0)
    given, parts = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), []
    if x["dtype"] == np.int8 and given.dtype != np.uint8:
        scale, zero = _grid(x)
        given = np.clip(np.rint(given / scale) + zero, -128, 127).astype(np.int8)
    for i in range(len(given)):
        interpreter.set_input(given[i : i + 1], 0)
        interpreter.invoke()
        parts.append(interpreter.get_output(0).copy())
    interpreter.print_allocations()
    logits = np.concatenate(parts).reshape(len(images), -1).astype(np.float32)
    if y["dtype"] == np.float32:
        return logits
    scale, zero = _grid(y)
    return (logits - zero) * scale


def _grid(details: dict) -> tuple[np.float32, np.float32]:
    held = details["quantization_parameters"]
    return np.float32(held["scales"][0]), np.float32(held["zero_points"][0])


def in_tvm(path: Path, images: np.ndarray) -> np.ndarray:
    """Compiled for LLVM, untuned."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    machine = relax.VirtualMachine(tvm.compile(from_onnx(onnx.load(path)), target="llvm"), tvm.cpu())
    outputs = [machine["main"](tvm.runtime.tensor(images[i : i + 1])) for i in range(len(images))]
    return np.concatenate([(y if hasattr(y, "numpy") else y[-1]).numpy() for y in outputs])


RUNTIMES = {
    "OpenVINO": Elsewhere("model.onnx", ["openvino>=2026.4,<2027"], in_openvino),
    "onnxruntime-web": Elsewhere("model.onnx", ["onnxruntime-web@1"], None),
    "TFLite Micro": Elsewhere("model.tflite", ["tflite-micro"], in_tflite_micro),
    "TVM": Elsewhere("model.onnx", ["apache-tvm", "apache-tvm-ffi"], in_tvm),
}


def main(run_dir: Path, folder: Path, count: int) -> None:
    models = sorted(path.parent for path in run_dir.glob("models/*/card.json"))
    if not models:
        sys.exit(f"error: {run_dir}: no models in it; make them with `make demo`")
    print("| model | runtime | images | labels equal | largest difference, steps | integers equal | |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    ready, absent = {}, {}
    for name, elsewhere in RUNTIMES.items():
        try:
            ready[name] = installed(name, elsewhere, folder / name.replace(" ", "-").lower())
        except Absent as why:
            absent[name] = str(why)
    for model in models:
        images, reference, step = expected(model, count)
        for name in list(ready):
            try:
                given, more = outputs(name, model, images, ready[name])
            except Absent as why:
                absent[name] = f"{model.name}: {why}"
                continue
            print(f"| {model.name} | {row(ready[name].called, given, reference, step)} | {more} |", flush=True)
    for name, why in absent.items():
        print(f"\n{name}: skipped, {why}", flush=True)


@dataclass(frozen=True)
class Installed:
    """A runtime with its version, and where it lies."""

    called: str
    folder: Path


def installed(name: str, elsewhere: Elsewhere, folder: Path) -> Installed:
    """It, fetched into ``folder`` unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if elsewhere.run is None:
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Absent("no node and npm here")
        held = folder / "node_modules/onnxruntime-web/package.json"
        if not held.exists():
            finished(["npm", "install", "--silent", "--no-audit", "--no-fund", *elsewhere.packages], folder)
        (folder / "main.mjs").write_text(WEB)
        return Installed(f"{name} {json.loads(held.read_text())['version']}", folder)
    package = re.split(r"[<>=]", elsewhere.packages[0])[0]
    here = find_spec(package) is not None  # in this environment
    if not here and not any(folder.glob("*.dist-info")):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        finished([*pip, *elsewhere.packages], folder)
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    found = version(package) if here else finished([sys.executable, "-c", ask], folder).strip()
    return Installed(f"{name} {found}", folder)


def finished(line: Sequence[str], folder: Path) -> str:
    """What a command prints, run in ``folder``, whose Python packages it finds after all others.

    Raises:
        Absent: it fails, or takes too long.
    """
    paths = [*sys.path[1:], str(folder)]
    try:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise Absent(f"{Path(line[0]).name} took longer than {PATIENCE_S} s") from None
    if done.returncode:
        lines = [text.strip() for text in (done.stdout + "\n" + done.stderr).splitlines() if text.strip()]
        raise Absent(lines[-1] if lines else f"{Path(line[0]).name} ended with exit code {done.returncode}")
    return done.stdout + done.stderr


def expected(model: Path, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The first ``count`` test images as the model's files take them, the reference's logits, and an output step."""
    from spaceevo.data import load_data
    from spaceevo.data.config import DataConfig
    from spaceevo.data.folder import settled
    from spaceevo.deploy.claims.reading import read_card
    from spaceevo.deploy.file_input import FileInput
    from spaceevo.deploy.inputs import AtSize, shown
    from spaceevo.deploy.integer.model import load_integer
    from spaceevo.deploy.integer.reference import run_integer
    from spaceevo.steps.verify import claimed_data

    card = read_card(model)
    data = settled(claimed_data(DataConfig(), card["data"], str(model / "card.json")))
    images = load_data(data, test=True)
    assert images.test is not None
    seen = shown(images.test[:count], data, FileInput.read(card["input"]))
    integer = load_integer(model / "model.safetensors")
    reference = run_integer(integer, AtSize(seen.normalized, integer.graph.input.hw)[:])
    return np.ascontiguousarray(seen.fed[:]), reference, float(integer.output_qparams[0])


def outputs(name: str, model: Path, images: np.ndarray, at: Installed) -> tuple[np.ndarray, str]:
    """What the runtime gives, and what else it tells."""
    elsewhere, out = RUNTIMES[name], at.folder / "logits.bin"
    path, given = (model / elsewhere.file).resolve(), at.folder / "images.bin"
    out.unlink(missing_ok=True)
    given.write_bytes(images.tobytes())
    how = [str(path), str(given), json.dumps(images.shape), json.dumps(images.dtype == np.uint8), str(out)]
    inside = [sys.executable, str(Path(__file__).resolve()), "--inside", name]
    told = finished([*(["node", "main.mjs"] if elsewhere.run is None else inside), *how], at.folder)
    arena = ARENA.search(told)
    words = f"arena {int(arena[1]) / 1000:.1f} kB" if arena else ""
    return np.frombuffer(out.read_bytes(), np.float32).reshape(len(images), -1), words


def inside(name: str, path: str, given: str, shape: str, pixels: str, out: str) -> None:
    """In the process of one runtime: the images' logits, written as float32."""
    kind, run = np.uint8 if json.loads(pixels) else np.float32, RUNTIMES[name].run
    assert run is not None
    images = np.frombuffer(Path(given).read_bytes(), kind).reshape(json.loads(shape))
    Path(out).write_bytes(np.ascontiguousarray(run(Path(path), images), np.float32).tobytes())


def row(called: str, given: np.ndarray, reference: np.ndarray, step: float) -> str:
    from spaceevo.deploy.claims.parity import label_agreement

    steps = np.rint(np.abs(given - reference) / step)
    labels, integers = label_agreement(reference, given), 100 * float((steps == 0).mean())
    return f"{called} | {len(given)} | {labels:.2f} % | {steps.max():.0f} | {integers:.2f} %"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("run_dir", type=Path, nargs="?", default=Path("runs/demo"))
        parser.add_argument("--folder", type=Path, default=Path("build/portability"), help="where the runtimes go")
        parser.add_argument("--images", type=int, default=500, help="the first test images, as many of them")
        asked = parser.parse_args()
        main(asked.run_dir, asked.folder.resolve(), asked.images)
