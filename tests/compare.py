"""``make compare``: standard networks trained alone beside the exported models of a finished run, timed in one run.

Each network (``spaceevo.space.standard``) is trained by the trainer of ``stage=finish``, from nothing, for the run's whole
time divided by its number of models (or ``--seconds``), quantization-aware for the last part, and written by the same exporter;
it counts with its trained quantizers or with quantizers fitted anew to its weights, whichever is better. Test top-1 in percent;
ms as cards have it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

from spaceevo.app.config import FinishConfig, compose
from spaceevo.data import ImagesModule, Normalized, input_range, load_data, normalize
from spaceevo.deploy.export import int8_and_fp32, recalibrated
from spaceevo.deploy.runtimes import measure_files
from spaceevo.latency.measure import latency
from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import top1
from spaceevo.space.standard import STANDARD, standard_graph
from spaceevo.training.alone import AloneModule, steps_within
from spaceevo.training.fit import fit
from spaceevo.training.recipes import quantizer, start

CPU = dict(accelerator="cpu", devices=1, enable_progress_bar=False)
ALONE = dict(lr=0.2, quantized_from=0.85)  # the rate from nothing; LSQ+ at the end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("names", nargs="*", default=["plain4", "plain5", "plain", "resnet"], choices=[*STANDARD, []])
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    cfg = compose("pipeline", ["experiment=demo", f"run_dir={given.run_dir}"])
    start(cfg)
    cards = [json.loads(path.read_text()) for path in sorted(given.run_dir.glob("models/*/card.json"))]
    records = [json.loads(path.read_text()) for path in given.run_dir.glob("provenance/*.json")]
    seconds = given.seconds or sum(record["wall_s"] for record in records) / len(cards)
    images = load_data(cfg.data, test=True)
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    test = Normalized(images.test, cfg.data)
    files, accuracies = {}, {}
    for name in given.names:
        for width in STANDARD[name].widths:
            label = f"{name} x{width:g}"
            graph = standard_graph(name, width, cfg.data.channels, cfg.data.classes, cfg.data.image_size)
            net = Elastic(graph, input_range(cfg.data), cfg.device.padding)
            recipe: FinishConfig = replace(cfg.finish, **ALONE)
            data = ImagesModule(images, cfg.data, recipe.batch, cfg.seed)
            module = AloneModule(net, graph, recipe, 0, cfg.seed, quantizer(cfg), calibration)
            with tempfile.TemporaryDirectory() as folder:
                x, y = next(iter(data.train_dataloader()))
                module.steps = steps_within(seconds, module, (normalize(x, cfg.data), y), Path(folder) / "steps.json")
                epochs = math.ceil(module.steps / data.steps_per_epoch)
                fit(module, data, CPU, False, Path(folder), epochs, module.steps)
            net.eval()
            int8 = top1(recalibrated(net, graph, calibration, quantizer(cfg)).logits(test), images.test_labels)
            net.init_quantizers(calibration, [graph], graph, quantizer(cfg))  # fitted anew
            after = top1(recalibrated(net, graph, calibration, quantizer(cfg)).logits(test), images.test_labels)
            accuracies[label] = max(int8, after)
            files |= {f"{label}/{n}": c for n, c in int8_and_fp32(net, graph, calibration, quantizer(cfg)).files.items()}
            print(f"{label}: {int8:.2f} % in INT8 after {module.steps} steps in {seconds:.0f} s", flush=True)
    for card in cards:
        label = card["name"]
        accuracies[label] = card["top1_runtime"]
        folder = given.run_dir / "models" / label
        files |= {f"{label}/{name}": (folder / name).read_bytes() for name in ("model.onnx", "model.tflite")}
    b = cfg.benchmark
    timed = {name: content for name, content in files.items() if not name.endswith("fp32.onnx")}
    times = {
        name: latency(taken) for name, taken in measure_files(timed, b.rounds, b.runs, cfg.device.threads, b.spread_s).items()
    }
    rows = {label: (top, times[f"{label}/model.onnx"], times[f"{label}/model.tflite"]) for label, top in accuracies.items()}
    found = {card["name"] for card in cards}
    for label, (top, onnx, tflite) in sorted(rows.items(), key=lambda row: row[1][1]):
        print(
            f"{label:24s} {top:6.2f} %  {onnx:.4f} ms onnxruntime  {tflite:.4f} ms LiteRT  {'found' if label in found else ''}"
        )
    for label in sorted(found):
        top, onnx, _ = rows[label]
        beaten = [name for name, (t, ms, _) in rows.items() if name not in found and t > top and ms <= onnx]
        print(
            f"{label}: {'beaten by ' + ', '.join(beaten) if beaten else 'no network here is more accurate at no more latency'}"
        )


if __name__ == "__main__":
    main()
