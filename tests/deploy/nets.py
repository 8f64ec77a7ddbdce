"""What the deploy tests share: small graphs of every block type, with weights that a few steps of training made uneven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from spaceevo.deploy.integer.model import MIDDLE, IntegerModel, QParams
from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.nn.evaluate import calibrate
from spaceevo.space import (
    BlockChoice,
    ElasticStage,
    Graph,
    SearchSpace,
    Subnet,
    load_hyperspace,
    random_stage,
    stage_graph,
    subnet_graph,
)
from spaceevo.space.blocks import NO_EXPAND
from spaceevo.space.graph import INPUT, Op, Tensor

torch.set_num_threads(1)
#: With VNNI, 8-bit weights are exact in onnxruntime; without, 7 bits are.
VNNI = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_vnni", "avx_vnni"))
QUANTIZER = Quantizer(weight_bits=8 if VNNI else 7)


def smooth_images(n: int, graph: Graph, seed: int = 0) -> torch.Tensor:
    """Random images ``[n, C, R, R]`` in [0, 1] with neighbouring pixels alike, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, graph.input.channels, 5, 5, generator=generator)
    return F.interpolate(coarse, size=(graph.input.hw,) * 2, mode="bilinear")


def random_net(
    graph: Graph, seed: int = 0, quantizer: Quantizer = QUANTIZER, padding: str = "symmetric", images: int = 64
) -> tuple[Elastic, Stats]:
    """Random weights, gains of either sign, shifts; quantizers and statistics from a batch."""
    torch.manual_seed(seed)
    net = Elastic(graph, padding=padding)
    for p in net.ops_by_name.values():
        if hasattr(p, "gain"):
            p.gain.data.uniform_(0.3, 1.5).mul_(torch.randn_like(p.gain).sign())
        if hasattr(p, "shift"):
            p.shift.data.normal_(0, 0.5)
    x = smooth_images(images, graph)
    net.init_quantizers(x, [graph], graph, quantizer)
    return net, statistics(net, graph, x)


def statistics(net: Elastic, graph: Graph, x: torch.Tensor) -> Stats:
    return calibrate(net, graph, [x])


def trained_net(
    graph: Graph, seed: int = 0, quantizer: Quantizer = QUANTIZER, padding: str = "symmetric", steps: int = 3
) -> tuple[Elastic, Stats]:
    """:func:`random_net` after a few quantization-aware steps: every weight, scale and offset has moved."""
    net, _ = random_net(graph, seed, quantizer, padding)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    x = smooth_images(16, graph)
    with torch.no_grad():
        y = net(x, graph)
        target = (torch.rand_like(y) * 2 - 1) * y.std()
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(net(x, graph, quantizer=quantizer), target).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net, statistics(net, graph, smooth_images(64, graph))


def logits(net: Elastic, graph: Graph, stats: Stats, x: torch.Tensor, quantizer: Quantizer | None) -> np.ndarray:
    with torch.no_grad():
        return net(x, graph, stats=stats, quantizer=quantizer).flatten(1).numpy()


def small_stage(kind: str, act: str, stride: int = 2, forced: bool = True) -> Graph:
    """Three blocks of one type: a convolution as shortcut, an identity shortcut, other kernels."""
    block = BlockChoice(kind, (3, 5), (None,) if kind in NO_EXPAND else (1.0, 2.0), act)
    stage = ElasticStage("stage1", block, (16,), (3,), stride, forced)
    return stage_graph(stage, random_stage(stage, np.random.default_rng(1)), cin=8, hw=12)


def demo_subnet(types: str, seed: int = 0) -> Graph:
    """A whole subnet of the demo's hyperspace, for grey images and ten labels."""
    space = SearchSpace.parse(f"small-{types}-1111", load_hyperspace("small").with_task(channels=1, classes=10))
    return subnet_graph(Subnet.sample(space, np.random.default_rng(seed)))


def one_op(kind: str, inputs: list[QParams], y: QParams, hw: int = 16) -> IntegerModel:
    """A model of one op without weights, behind what gives it the image's channels as its inputs' integers: images of
    ``[N, inputs, hw, hw]`` whole numbers times the first input's scale, less its zero point."""
    (scale, _), n = inputs[0], len(inputs)
    middle = MIDDLE if all(zero == MIDDLE for _, zero in (*inputs, y)) else 0
    if n == 1:
        op = Op("y", kind, (INPUT,), 1, 1, hw, 1 if kind == "mean" else hw)
        return IntegerModel(Graph(Tensor(INPUT, 1, hw), [op]), {}, {}, {}, {INPUT: inputs[0], "y": y})
    names = ("a", "b")
    pick = [Op(name, "conv", (INPUT,), n, 1, hw, hw, bias=True) for name in names]
    ops = [*pick, Op("y", kind, names, 1, 1, hw, hw)]
    return IntegerModel(
        Graph(Tensor(INPUT, n, hw), ops),
        {name: np.eye(n, dtype=np.int8)[i][None, :, None, None] for i, name in enumerate(names)},
        {name: np.array([s / scale], np.float32) for name, (s, _) in zip(names, inputs, strict=True)},
        {name: np.array([middle - zero], np.int32) for name, (_, zero) in zip(names, inputs, strict=True)},
        {INPUT: (scale, middle), "a": inputs[0], "b": inputs[1], "y": y},
    )
