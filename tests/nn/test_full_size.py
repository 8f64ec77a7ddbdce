"""Full-size supernets of the published and the hand-designed spaces: built, run, and extracted without a difference."""

from __future__ import annotations

import pytest
import torch

from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import calibrate
from spaceevo.nn.extract import Extracted
from spaceevo.space import SearchSpace, Subnet, subnet_graph, superset_graph
from spaceevo.training.supernet import make_supernet

SPACES = ("spaceevo@vnni", "spaceevo@pixel4", "attentive_nas", "ofa_mbv3", "proxyless", "ofa_resnet50")
FP32 = 1e-5  # what an extracted subnet may differ by; fake-quantized: by nothing


@pytest.fixture(scope="module", params=SPACES)
def supernet(request: pytest.FixtureRequest) -> tuple[SearchSpace, Elastic]:
    space = SearchSpace.parse(request.param)
    return space, make_supernet(space, (-2.2, 2.7)).eval()


@pytest.mark.parametrize("extreme", [Subnet.smallest, pytest.param(Subnet.largest, marks=pytest.mark.slow)])
@torch.no_grad()
def test_extracted_subnet_of_a_full_size_supernet_computes_the_same(supernet: tuple, extreme) -> None:  # type: ignore[no-untyped-def]
    space, net = supernet
    subnet = extreme(space)
    graph = subnet_graph(subnet)
    torch.manual_seed(0)
    x = torch.randn(2, 3, subnet.resolution, subnet.resolution).to(memory_format=torch.channels_last)
    stats = calibrate(net, graph, [x])
    plain = net(x, graph, stats=stats).flatten(1)
    assert plain.shape == (2, 1000) and bool(plain.isfinite().all()) and float(plain.std()) > 0
    assert float((Extracted(net, graph, stats).eval()(x) - plain).abs().max()) <= FP32
    quantizer = Quantizer()
    net.init_quantizers(x, [graph], graph, quantizer)
    quantized = net(x, graph, stats=stats, quantizer=quantizer).flatten(1)
    assert float((Extracted(net, graph, stats, quantizer).eval()(x) - quantized).abs().max()) == 0
    assert bool(quantized.isfinite().all()) and not torch.equal(quantized, plain)
    built = sum(
        p.numel() for n, p in Extracted(net, graph, stats).named_parameters() if n.endswith((".weight", ".gain", ".shift"))
    )
    assert built == subnet.cost().params


def test_supernet_has_the_ops_of_every_subnet(supernet: tuple) -> None:
    space, net = supernet
    assert {op.name for op in superset_graph(space).ops} == set(net.ops_by_name)
    assert {op.name for op in subnet_graph(Subnet.smallest(space)).ops} <= set(net.ops_by_name)


def test_resnet50_stages_cost_what_torchvision_s_do() -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import resnet50

    space = SearchSpace.parse("ofa_resnet50")
    widths, depths = (256, 512, 1024, 2048), (3, 4, 6, 3)
    blocks = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
    kernels, expands = "#".join(["3"] * 17), "#".join(["0"] + ["0.25"] * 16)
    text = f"d1#3#4#6#3_k{kernels}_w64#{'#'.join(map(str, blocks))}_e{expands}_r224"
    ours = [op for op in subnet_graph(Subnet.parse(space, text)).ops if op.name.startswith(("stage", "classifier"))]
    net = resnet50(weights=None).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        net(torch.zeros(1, 3, 224, 224))
    stem = 112**2 * 64 * 3 * 49
    assert sum(op.macs for op in ours) == flops.get_total_flops() / 2 - stem
    assert sum(op.params for op in ours) == sum(
        p.numel() for n, p in net.named_parameters() if not n.startswith(("conv1", "bn1"))
    )
