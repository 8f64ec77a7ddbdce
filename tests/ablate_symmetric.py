"""``make ablate``: what symmetric activations cost (``device.activations``), beside affine ones, of the same weights.

Every finished model of a run: its weights in full precision; quantized with quantizers fitted to training images; and after
quantization-aware training of the same steps from these weights. Top-1 on the test images.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from spaceevo.app.config import compose
from spaceevo.data import ImagesModule, Normalized, load_data, normalize
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import recalibrated_top1
from spaceevo.space import Graph, Subnet, subnet_graph
from spaceevo.space.graph import SCHEMES
from spaceevo.steps.common import start
from spaceevo.steps.needs import hyperspace
from spaceevo.training.alone import AloneModule
from spaceevo.training.checkpoint import load_checkpoint, load_finished, load_supernet
from spaceevo.training.fit import fit

CPU = dict(accelerator="cpu", devices=1, enable_progress_bar=False)
IMAGES, RATES = 9600, dict(lr=0.005, muon_lr=0.002)  # of quantization-aware training, from weights that are trained


def main(run_dir: str) -> None:
    cfg = compose("pipeline", ["experiment=demo", f"run_dir={run_dir}"])
    start(cfg)
    images = load_data(cfg.data, test=True)
    assert images.test is not None and images.test_labels is not None
    calibration: Tensor = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    test, labels = Normalized(images.test, cfg.data), images.test_labels
    _, space = load_supernet(Path(run_dir) / "qat.ckpt", hyperspace(cfg))
    recipe = replace(cfg.finish, **RATES, quantized_from=0.0)

    def model(path: Path) -> tuple[Elastic, Graph]:
        told = load_checkpoint(path)
        trained = Quantizer(told["weight_bits"], told.get("activations", SCHEMES[0]))
        return load_finished(path, space, trained)[0], subnet_graph(Subnet.parse(space, told["subnet"]))

    for path in sorted(Path(run_dir).glob("finished/*.ckpt")):
        bits = load_checkpoint(path)["weight_bits"]
        net, graph = model(path)
        print(f"{path.stem}: FP32 {recalibrated_top1(net, graph, None, calibration, test, labels):.2f} %", flush=True)
        for activations in SCHEMES:
            net, graph = model(path)
            quantizer = Quantizer(bits, activations)
            net.init_quantizers(calibration, [graph], graph, quantizer)
            fitted = recalibrated_top1(net, graph, quantizer, calibration, test, labels)
            data = ImagesModule(images, cfg.data, recipe.batch, cfg.seed, limit=IMAGES)
            steps = data.steps_per_epoch
            module = AloneModule(net.train(), graph, recipe, steps, cfg.seed, quantizer, calibration)
            with tempfile.TemporaryDirectory() as folder:
                fit(module, data, CPU, False, Path(folder), 1)
            learned = recalibrated_top1(net.eval(), graph, quantizer, calibration, test, labels)
            print(f"  {activations}: {fitted:.2f} % fitted, {learned:.2f} % after {steps} steps of QAT", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
