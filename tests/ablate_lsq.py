"""``make ablate``: what learning the quantizers' scales and zero points brings, at 8 and at 4 bits a weight.

From the FP32 supernet of a finished run, quantization-aware training of the same steps with the quantizers learned, and with
them left as they began; mean validation top-1 of the largest, the smallest and random subnets.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor

from spaceevo.app.config import compose
from spaceevo.data import ImagesModule, Normalized, load_data, normalize
from spaceevo.nn.elastic import Quantizer
from spaceevo.nn.evaluate import calibrate, logits, resized, top1
from spaceevo.space import Subnet, subnet_graph
from spaceevo.steps.common import start
from spaceevo.steps.needs import hyperspace
from spaceevo.training.checkpoint import load_supernet
from spaceevo.training.fit import fit
from spaceevo.training.supernet import SupernetModule, init_qat

RANDOM_SUBNETS = 6
CPU = dict(accelerator="cpu", devices=1, enable_progress_bar=False)


def main(run_dir: str, epochs: int) -> None:
    cfg = compose("pipeline", ["experiment=demo", f"run_dir={run_dir}"])
    start(cfg)
    images = load_data(cfg.data)
    calibration: Tensor = normalize(images.train[:256], cfg.data)
    validation = Normalized(images.val, cfg.data)
    for bits in (8, 4):
        for learned in (False, True):
            net, space = load_supernet(Path(run_dir) / "supernet.ckpt", hyperspace(cfg))
            quantizer = Quantizer(bits)
            init_qat(net, space, calibration, quantizer, cfg.seed)
            for name, p in net.body.named_parameters():
                if name.endswith((".ratio", ".zero")):
                    p.requires_grad_(learned)
            data = ImagesModule(images, cfg.data, cfg.qat.batch, cfg.seed, limit=cfg.qat.images)
            module = SupernetModule(net, space, cfg.qat, epochs * data.steps_per_epoch, cfg.seed, quantizer)
            with tempfile.TemporaryDirectory() as folder:
                fit(module, data, CPU, False, Path(folder), epochs)
            rng = np.random.default_rng(0)
            subnets = [Subnet.largest(space), Subnet.smallest(space)]
            subnets += [Subnet.sample(space, rng) for _ in range(RANDOM_SUBNETS)]
            net.eval()
            found = []
            for subnet in subnets:
                graph = subnet_graph(subnet)
                stats = calibrate(net, graph, resized(calibration, graph.input.hw), quantizer)
                found.append(top1(logits(net, graph, stats, validation, quantizer), images.val_labels))
            moved = module.scales_moved()
            print(
                f"weights of {bits} bits, quantizers {'learned' if learned else 'left as they began'}: "
                f"{np.mean(found):.2f} % validation top-1 of {len(found)} subnets (largest {found[0]:.2f}, smallest "
                f"{found[1]:.2f}); scales moved by {moved.median():.1f} % (median), {moved.max():.0f} % at most",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/demo", int(sys.argv[2]) if len(sys.argv) > 2 else 2)
