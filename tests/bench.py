"""``make bench``: what the fast versions gain over the plain ones, both in one run, and the figures the README states."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spaceevo.app.config import compose
from spaceevo.data.imagenet import FolderImages
from spaceevo.evolution import GeneCode, QTScore, Table
from spaceevo.latency.predictor import Predictor, op_features
from spaceevo.nn.elastic import Quantizer, resize
from spaceevo.nn.lsq import fake_quant_activation
from spaceevo.nn.parallel import parallel
from spaceevo.space import SearchSpace, Subnet, subnet_graph
from spaceevo.steps.bkd import new_students
from spaceevo.steps.needs import hyperspace
from spaceevo.training.bkd import BKDModule, sandwich_stages
from spaceevo.training.supernet import make_supernet
from spaceevo.training.teacher import cnn_teacher, doubling_widths

REPEATS = 7


def milliseconds(job: Callable[[], object], repeats: int = REPEATS) -> float:
    """The fastest of ``repeats`` calls after one to warm up."""
    job()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        job()
        taken.append(time.perf_counter() - begin)
    return 1e3 * min(taken)


def compare(what: str, plain: Callable[[], object], ours: Callable[[], object]) -> None:
    slow, fast = milliseconds(plain), milliseconds(ours)
    print(f"{what:<66} plain {slow:9.2f} ms   here {fast:9.2f} ms   {slow / fast:5.2f}x", flush=True)


def plain_fake_quant(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """LSQ+ as in the papers' listings: straight-through rounding of separate operations."""
    gradient = (x.numel() * 255) ** -0.5
    s, b = (p * gradient + (p - p * gradient).detach() for p in (scale, offset))
    q = ((x - b) / s).clamp(0, 255)
    return (q + (q.round() - q).detach()) * s + b


def fake_quant() -> None:
    x = torch.randn(32, 64, 28, 28).to(memory_format=torch.channels_last).requires_grad_()
    scale, offset = torch.tensor(0.02, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    zero = torch.tensor(100.0, requires_grad=True)
    compare(
        "LSQ+ fake quantization, 32x64x28x28, forward and backward",
        lambda: plain_fake_quant(x, scale, offset).sum().backward(),
        lambda: fake_quant_activation(x, scale, zero).sum().backward(),
    )


def layout() -> None:
    hs = hyperspace(compose("pipeline", ["experiment=demo"]))
    space = SearchSpace.sample(hs, np.random.default_rng(0))
    graph = subnet_graph(Subnet.largest(space))
    net = make_supernet(space, (0.0, 1.0))
    x = torch.rand(64, hs.channels, 28, 28)
    plain = make_supernet(space, (0.0, 1.0)).to(memory_format=torch.contiguous_format)
    compare(
        "supernet, largest path, batch 64, forward and backward: channels last",
        lambda: plain(x, graph).sum().backward(),
        lambda: net(x.to(memory_format=torch.channels_last), graph).sum().backward(),
    )


def distillation() -> None:
    cfg = compose("pipeline", ["experiment=demo"])
    hs = hyperspace(cfg)
    strides = [stage.stride for stage in hs.stages]
    teacher = cnn_teacher(hs.channels, hs.classes, hs.stem.stride, strides, doubling_widths(strides), cfg.teacher.depth).eval()
    features = [f.detach() for f in teacher.features(torch.rand(cfg.bkd.batch, hs.channels, 28, 28))]
    students = new_students(hs, teacher, "symmetric")
    rng = np.random.default_rng(0)
    variance = [torch.ones(c) for c in teacher.channels]
    for name, quantizer in (("FP32", None), ("LSQ+", Quantizer(8))):
        module = BKDModule(students, teacher, variance, cfg.bkd, hs.lut_resolutions, 1, 0, quantizer)
        module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
        jobs = []
        for student in students:
            spec = student.spec
            paths = sandwich_stages(spec.elastic, spec.input_widths, cfg.bkd.random_paths, rng)
            jobs.append((student, paths, features[spec.stage - 1], features[spec.stage], variance[spec.stage]))
        compare(
            f"BKD step of {len(students)} students, {name}: one thread each, side by side",
            lambda module=module, jobs=jobs: [module._distil(job) for job in jobs],
            lambda module=module, jobs=jobs: list(parallel(module._distil, jobs)),
        )


def qt_score() -> None:
    hs = hyperspace(compose("pipeline", ["experiment=demo"]))
    rng = np.random.default_rng(0)
    keys = [
        (s, t, w, r)
        for s, stage in enumerate(hs.stages)
        for t in range(len(hs.blocks))
        for w in range(stage.windows)
        for r in hs.lut_resolutions
    ]
    table = Table(
        hs,
        hs.lut_resolutions,
        {key: rng.random(8) for key in keys},
        {key: rng.random(8) / 50 for key in keys},
        {r: 0.01 for r in hs.lut_resolutions},
    )
    score = QTScore(table, (0.03, 0.05, 0.08), draws=5000, top=20)
    spaces = [SearchSpace.sample(hs, rng) for _ in range(200)]
    taken = milliseconds(lambda: [score(space) for space in spaces])
    print(f"Q-T score of one space, 5,000 draws, top 20, three limits: {taken / len(spaces):.2f} ms", flush=True)


def images() -> None:
    """ImageNet's input: JPEGs of 500x375 decoded, cropped, resized and mirrored by one process."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(f"{folder}/{i}.jpg" for i in range(64))
        for path in files:
            shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
                (500, 375), Image.Resampling.BICUBIC
            )
            noise = rng.integers(-12, 13, (375, 500, 3))
            Image.fromarray((np.asarray(shapes) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        read = FolderImages(files, 224)
        taken = milliseconds(lambda: read.augmented(torch.arange(64), 0, True), 3)
    batch = torch.rand(64, 3, 224, 224).to(memory_format=torch.channels_last)
    a_path, a_batch = (milliseconds(lambda n=n: [resize(batch, 192) for _ in range(n)], 3) for n in (4, 1))
    print(f"ImageNet input (JPEG 500x375 to 224x224): {64e3 / taken:.0f} images/s a core", flush=True)
    print(f"resizing 64 of them once a batch {a_batch:.0f} ms, once for each of four paths {a_path:.0f} ms", flush=True)


def describing() -> None:
    """The longest answers of ``python -m spaceevo.describe``."""
    with tempfile.TemporaryDirectory() as folder:
        for what in ("space=attentive_nas", "model=SEQnet@vnni-A4", "hyperspace=mobilew"):
            command = [sys.executable, "-m", "spaceevo.describe", what, f"run_dir={folder}"]
            taken = milliseconds(lambda command=command: subprocess.run(command, capture_output=True, check=True), 3)
            print(f"python -m spaceevo.describe {what}: {taken / 1e3:.2f} s", flush=True)


def full_size() -> None:
    """The largest supernet of the published and hand-designed spaces."""
    for name in ("spaceevo@pixel4", "ofa_resnet50"):
        space = SearchSpace.parse(name)
        print(
            f"building the supernet of {name}: {milliseconds(lambda space=space: make_supernet(space, (0, 1)), 1) / 1e3:.1f} s"
        )


def subnet_proposals() -> None:
    """Mutate and price: subnet by subnet with a graph each, and as genes with tables of blocks."""
    space, rng = SearchSpace.parse("onnxw-151122-023231"), np.random.default_rng(0)
    code, plain, many = GeneCode(space), 50, 4096
    nets = code.decode(code.sample(plain, rng))
    names = sorted({name for net in nets for op in subnet_graph(net).ops for name in op_features(op)})
    predictor = Predictor({"int8": dict(zip(names, rng.random(len(names)) * 1e-6, strict=True))})
    begin = time.perf_counter()
    cost = predictor.costs(code)
    built, genes = time.perf_counter() - begin, code.sample(many, rng)
    slow = milliseconds(lambda: [predictor.graph_ms(subnet_graph(net.mutate(rng))) for net in nets]) / plain
    fast = milliseconds(lambda: cost(code.mutate(genes, 0.1, rng))) / many
    what = f"subnet proposals a second, onnxw (tables of blocks built in {built:.2f} s)"
    print(f"{what:<66} plain {1e3 / slow:9,.0f}      here {1e3 / fast:9,.0f}      {slow / fast:5.0f}x", flush=True)


def imports() -> None:
    for module in ("spaceevo.space", "spaceevo.evolution"):
        code = f"import time, sys; t = time.time(); import {module}; print(time.time() - t, 'torch' in sys.modules)"
        runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
        seconds, torch_loaded = min(run.stdout.split() for run in runs)
        print(f"import {module}: {float(seconds):.2f} s, {'with' if torch_loaded == 'True' else 'without'} torch", flush=True)


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    fake_quant()
    layout()
    distillation()
    qt_score()
    images()
    full_size()
    describing()
    subnet_proposals()
    imports()
