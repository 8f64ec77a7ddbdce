"""The elastic module: subnets of shared weights, in full precision and fake-quantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from spaceevo.app.config import compose
from spaceevo.nn.elastic import BN_EPS, Elastic, Quantizer, resize
from spaceevo.nn.evaluate import calibrate, pooled_moments
from spaceevo.nn.extract import Extracted
from spaceevo.nn.lsq import fake_quant_activation, zero_point
from spaceevo.nn.scheme import ACT_MAX
from spaceevo.space import (
    BlockChoice,
    BlockConfig,
    ElasticStage,
    Graph,
    Op,
    SearchSpace,
    Subnet,
    extreme_stage,
    graph_cost,
    stage_graph,
    subnet_graph,
    superset_graph,
)
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND
from spaceevo.space.graph import ACTIVATIONS
from spaceevo.steps.needs import hyperspace
from spaceevo.training.supernet import make_supernet

CIN, HW = 16, 9
QUANT = Quantizer(8)


def elastic_stage(kind: str, act: str = "relu", stride: int = 1) -> ElasticStage:
    expands = (None,) if kind in NO_EXPAND else (1.0, 2.0)
    return ElasticStage("stage1", BlockChoice(kind, (3, 5), expands, act), (8, 16), (1, 2), stride)


def small_path(stage: ElasticStage) -> Graph:
    """Neither the smallest nor the largest: kernel 3 then 5, fewer channels, a narrower input."""
    wide, narrow = stage.block.expands[-1], stage.block.expands[0]
    return stage_graph(stage, (BlockConfig(3, 16, narrow), BlockConfig(5, 8, wide)), CIN // 2, HW)


def largest_path(stage: ElasticStage, superset: bool = False) -> Graph:
    return stage_graph(stage, extreme_stage(stage, largest=True), CIN, HW, superset=superset)


def make_net(stage: ElasticStage, quantized: bool = False) -> Elastic:
    """With gains of either sign, shifts, an input of either sign and, if ``quantized``, fitted quantizers."""
    torch.manual_seed(0)
    net = Elastic(largest_path(stage, superset=True), (-2.0, 2.0))
    with torch.no_grad():
        for p in net.ops_by_name.values():
            if hasattr(p, "gain"):
                p.gain.copy_(torch.randn_like(p.gain).sign() * (0.5 + torch.rand_like(p.gain)))
                p.shift.normal_()
            elif hasattr(p, "shift"):
                p.shift.uniform_()  # a squeeze-and-excitation that is not dead by chance
    if quantized:
        net.init_quantizers(batch(), [largest_path(stage)], largest_path(stage, superset=True), QUANT)
    return net


def batch(channels: int = CIN, count: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(count, channels, HW, HW, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)


def loss(y: Tensor) -> Tensor:
    """Some direction's gradient (that of the squares would vanish behind a BatchNorm)."""
    return (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))).sum()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_subnet_of_the_supernet_equals_the_extracted_one(kind: str, act: str, stride: int) -> None:
    stage = elastic_stage(kind, act, stride)
    net, graph = make_net(stage, quantized=True), small_path(stage)
    x = batch(CIN // 2)
    with torch.no_grad():
        for quantizer, tolerance in ((None, 1e-5), (QUANT, 0.0), (Quantizer(7), 0.0)):
            stats = calibrate(net, graph, [batch(CIN // 2, seed=2)], quantizer)
            inside = net(x, graph, stats=stats, quantizer=quantizer).flatten(1)
            alone = Extracted(net, graph, stats, quantizer).eval()(x)
            assert inside.std() > 0.01
            assert (inside - alone).abs().max() <= tolerance


@pytest.mark.parametrize("quantizer", [None, QUANT])
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_folded_batchnorm_equals_the_batch_statistics_it_was_given(kind: str, quantizer: Quantizer | None) -> None:
    stage = elastic_stage(kind, stride=2)
    net, graph, x = make_net(stage, quantized=True), small_path(stage), batch(CIN // 2)
    with torch.no_grad():
        stats = calibrate(net, graph, [x], quantizer)
        unfolded, folded = (net(x, graph, quantizer=quantizer, stats=s) for s in (None, stats))
    if quantizer is None:
        torch.testing.assert_close(folded, unfolded, rtol=1e-4, atol=1e-4)
    else:  # the folded bias lies on the integer grid: a few steps of the output
        assert (folded - unfolded).abs().mean() < net.output_quantizer(graph.ops[-1], QUANT)[0]


class _Conv(torch.nn.Module):
    """Conv, BatchNorm and activation as torch's own layers: what the elastic op stands for."""

    def __init__(self, net: Elastic, op: Op) -> None:
        super().__init__()
        p, act = net.ops_by_name[op.name], {"relu": torch.nn.ReLU(), None: torch.nn.Identity()}[op.act]
        groups = op.cout if op.kind == "depthwise" else 1
        conv = torch.nn.Conv2d(op.cin, op.cout, op.kernel, op.stride, op.kernel // 2, groups=groups, bias=False)
        norm = torch.nn.BatchNorm2d(op.cout, eps=BN_EPS)
        margin = (p.weight.shape[2] - op.kernel) // 2
        inner = slice(margin, margin + op.kernel)
        with torch.no_grad():
            conv.weight.copy_(p.weight[: op.cout, : op.weight_shape[1], inner, inner])
            norm.weight.copy_(p.gain[: op.cout])
            norm.bias.copy_(p.shift[: op.cout])
        self.layers = torch.nn.Sequential(conv, norm, act)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("stride", [1, 2])
def test_mbv2_equals_torch_layers_with_sliced_weights(stride: int) -> None:
    stage = elastic_stage("mbv2", stride=stride)
    net = make_net(stage)
    graph = stage_graph(stage, (BlockConfig(3, 8, 2.0),), CIN, HW)
    expand, depthwise, project, shortcut, add = graph.ops
    x = batch()
    h = x
    for op in (expand, depthwise, project):
        h = _Conv(net, op)(h)
    assert shortcut.cout == 8 and add.kind == "add"
    torch.testing.assert_close(net(x, graph), h + _Conv(net, shortcut)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_a_small_path_trains_only_the_leading_slice(kind: str) -> None:
    stage = elastic_stage(kind, "hswish")
    net, graph = make_net(stage), small_path(stage)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    loss(net(batch(CIN // 2), graph)).backward()
    optimizer.step()
    used = {op.name: op for op in graph.ops}
    for name, p in net.ops_by_name.items():
        if not hasattr(p, "weight"):
            continue
        changed = (p.weight != before[f"body.{name}.weight"]).nonzero()
        if name not in used:
            assert len(changed) == 0, name
            continue
        cout, cin, kernel, _ = used[name].weight_shape
        margin = (p.weight.shape[2] - kernel) // 2
        assert len(changed) > 0.2 * cout * cin * kernel**2, name  # ReLU stops some
        assert changed[:, 0].max() < cout and changed[:, 1].max() < cin
        assert changed[:, 2:].min() >= margin and changed[:, 2:].max() < margin + kernel
        for vector in ("gain", "shift"):
            if hasattr(p, vector):
                assert torch.equal(getattr(p, vector)[cout:], before[f"body.{name}.{vector}"][cout:])


def test_a_smaller_kernel_is_the_centre_of_the_larger() -> None:
    net = make_net(elastic_stage("mbv1"))
    op = next(op for op in small_path(elastic_stage("mbv1")).ops if op.kind == "depthwise")
    full = net.ops_by_name[op.name].weight
    assert full.shape[2:] == (5, 5) and op.kernel == 3
    assert torch.equal(net.weight(op), full[:8, :, 1:4, 1:4])


class _Counter(TorchFunctionMode):
    """Multiply-adds of an image and parameters, from the tensors that ``conv2d`` and BatchNorm are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.params = 0

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        if func is F.conv2d:
            weight, bias = args[1], args[2] if len(args) > 2 else kwargs.get("bias")
            self.macs += y[0].numel() * weight[0].numel()
            self.params += weight.numel() + (0 if bias is None else bias.numel())
        elif func is F.batch_norm:
            self.params += 2 * args[0].shape[1]
        return y


def counted(net: Elastic, graph: Graph) -> tuple[float, float, int]:
    """MMACs by torch's own counter, MMACs and parameters by ours."""
    x = torch.zeros(2, graph.input.channels, graph.input.hw, graph.input.hw)
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Counter() as counter:
        net(x, graph)
    return flops.get_total_flops() / 2 / 2 / 1e6, counter.macs / 1e6, counter.params


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_costs_are_what_torch_computes(kind: str, stride: int) -> None:
    stage = elastic_stage(kind, stride=stride)
    net = make_net(stage)
    for graph in (small_path(stage), largest_path(stage)):
        cost = graph_cost(graph)
        by_torch, macs, params = counted(net, graph)
        assert cost.mmacs == pytest.approx(by_torch) == pytest.approx(macs)
        assert cost.params == params


def test_costs_of_whole_subnets_are_what_torch_computes() -> None:
    space = SearchSpace.parse("tiny-0121-0212", hyperspace(compose("train", ["experiment=tiny"])))
    net = make_supernet(space, (0.0, 1.0))
    for subnet in (Subnet.largest(space), Subnet.smallest(space)):
        by_torch, macs, params = counted(net, subnet_graph(subnet))
        assert subnet.cost().mmacs == pytest.approx(by_torch) == pytest.approx(macs)
        assert subnet.cost().params == params
    assert {op.name for op in superset_graph(space).ops} == set(net.ops_by_name)


def conv_inputs(net: Elastic, graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """Every convolution's output before its BatchNorm, by hand from the recorded tensors."""
    record: dict[str, Tensor] = {"input": x}
    net(x, graph, record=record)
    outputs = {}
    for op in graph.ops:
        if op.norm:
            groups = op.cout if op.kind == "depthwise" else 1
            outputs[op.name] = F.conv2d(record[op.inputs[0]], net.weight(op), None, op.stride, op.kernel // 2, 1, groups)
    return outputs


@torch.no_grad()
def test_calibration_gives_the_batch_mean_and_biased_variance() -> None:
    stage = elastic_stage("fused_mb_se", "relu6", 2)
    net, graph, x = make_net(stage), small_path(stage), batch(CIN // 2)
    stats = calibrate(net, graph, [x])
    by_hand = conv_inputs(net, graph, x)
    assert set(stats) == set(by_hand)
    for name, y in by_hand.items():
        torch.testing.assert_close(stats[name][0], y.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stats[name][1], y.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("quantizer", [None, QUANT])
@pytest.mark.parametrize("kind", ["mbv3", "fused_mb_se", "mbv2_k3"])
@torch.no_grad()
def test_calibration_does_not_depend_on_how_images_fall_into_batches(kind: str, quantizer: Quantizer | None) -> None:
    """A ragged last batch, batches whose means differ, batches of one: as all images at once."""
    stage = elastic_stage(kind)
    net, graph = make_net(stage, quantized=True), small_path(stage)
    images = torch.cat([batch(CIN // 2, seed=s) + s for s in (-1, 0, 1)])
    whole = calibrate(net, graph, [images], quantizer)
    for sizes in ([17, 1], [1] * 18, [5, 5, 5, 3]):
        for name, (mean, var) in calibrate(net, graph, images.split(sizes), quantizer).items():
            spread = whole[name][1].sqrt()
            # A sum rounded otherwise may move a value to the next step of its grid: that is all.
            assert ((mean - whole[name][0]) / spread).abs().max() < (1e-4 if quantizer is None else 1e-2), name
            assert (var / whole[name][1] - 1).abs().max() < (1e-4 if quantizer is None else 2e-2), name


@torch.no_grad()
def test_pooled_moments_are_those_of_all_images_together() -> None:
    torch.manual_seed(0)
    x = torch.randn(11, 3, 5, 5) * 1e-3 + torch.tensor([100.0, 0.0, -7.0])[:, None, None]
    mean, var = pooled_moments(x.split([4, 4, 2, 1]))
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(var.double(), exact.var((0, 2, 3), correction=0), rtol=1e-3, atol=0)


def values_on_grid(net: Elastic, graph: Graph, record: dict[str, Tensor]) -> dict[str, Tensor]:
    """The integers that every recorded tensor is made of, before rounding."""
    integers = {}
    for op in graph.ops:
        scale, zero = net.output_quantizer(op, QUANT)
        integers[op.name] = record[op.name].double() / scale.double() + zero_point(zero).double()
    return integers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", BLOCK_TYPES)
@torch.no_grad()
def test_every_fake_quantized_tensor_lies_on_its_grid(kind: str, act: str, training: bool) -> None:
    stage = elastic_stage(kind, act)
    net, graph, x = make_net(stage, quantized=True), largest_path(stage), batch()
    stats = None if training else calibrate(net, graph, [x], QUANT)
    record: dict[str, Tensor] = {}
    net(x, graph, quantizer=QUANT, stats=stats, record=record)
    assert set(record) == {op.name for op in graph.ops}
    for name, q in values_on_grid(net, graph, record).items():
        assert (q - q.round()).abs().max() < 1e-3, name
        assert q.round().min() >= 0 and q.round().max() <= ACT_MAX
        assert len(q.round().unique()) > 8, name  # a grid that is used


@pytest.mark.parametrize(("bits", "top"), [(7, 63), (8, 127)])
@torch.no_grad()
def test_weight_bits_bound_the_integer_weights(bits: int, top: int) -> None:
    stage = elastic_stage("residual_bottleneck_se")
    graph, quantizer = largest_path(stage), Quantizer(bits)
    net = make_net(stage)
    net.init_quantizers(batch(), [graph], largest_path(stage, superset=True), quantizer)
    weights: dict[int, Tensor] = {}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
            if func is F.conv2d:
                weights[len(weights)] = args[1].clone()
            return func(*args, **(kwargs or {}))

    with Watch():
        net(batch(), graph, quantizer=quantizer)
    scales = [net.ops_by_name[op.name].weight_scale() for op in graph.ops if op.has_weight]
    assert len(weights) == len(scales)
    integers = [w.double() / s.double() for w, s in zip(weights.values(), scales, strict=True)]
    assert all((q - q.round()).abs().max() < 1e-3 for q in integers)
    largest = max(float(q.abs().max().round()) for q in integers)
    assert top // 2 < largest <= top
    for p in net.ops_by_name.values():  # the bound holds however small the scale is
        if hasattr(p, "weight"):
            p.weight_scale.ratio.mul_(0.1)
    weights.clear()
    with Watch():
        net(batch(), graph, quantizer=quantizer)
    scales = [scale / 10 for scale in scales]
    assert {float((w / s).abs().max().round()) for w, s in zip(weights.values(), scales, strict=True)} == {float(top)}


@torch.no_grad()
def test_initial_quantizers_hold_what_all_graphs_reach() -> None:
    stage = elastic_stage("mbv3", "swish")
    net = make_net(stage)
    graphs = [largest_path(stage), small_path(stage)]
    with pytest.raises(RuntimeError):  # graphs of another input width need their own images
        net.init_quantizers(batch(), graphs, largest_path(stage, superset=True), QUANT)
    graphs[1] = stage_graph(stage, extreme_stage(stage, largest=False), CIN, HW)
    superset = largest_path(stage, superset=True)
    net.init_quantizers(batch(), graphs, superset, QUANT)
    reached: dict[str, list[Tensor]] = {}
    for graph in graphs:
        record: dict[str, Tensor] = {}
        net(batch(), graph, record=record)
        for name, y in record.items():
            reached.setdefault(name, []).append(y.flatten())
    ops = {op.name: op for op in superset.ops}
    for name, values in reached.items():
        scale, zero = net.output_quantizer(ops[name], QUANT)
        whole = torch.cat([*values, torch.zeros(1)])
        low, high = (float(v) for v in torch.aminmax(whole))
        if ops[name].act == "hsigmoid":
            assert float(scale) * ACT_MAX == pytest.approx(1)
            continue
        least, most = (float(scale * (end - zero_point(zero))) for end in (0, ACT_MAX))
        assert low - float(scale) <= least <= 0 <= most <= max(high, low + 1e-3) + float(scale), name
        error = (fake_quant_activation(whole, scale, zero) - whole).square().mean()
        assert error <= (max(high - low, 1e-3) / ACT_MAX) ** 2 / 12 * 1.3, name  # at most that of the extremes' range
    for name in set(ops) - set(reached):  # run by the superset alone, fitted all the same
        assert float(net.output_quantizer(ops[name], QUANT)[0]) != 1.0, name


@torch.no_grad()
def test_fake_quant_is_close_to_full_precision() -> None:
    for kind in BLOCK_TYPES:
        stage = elastic_stage(kind)
        net, graph, x = make_net(stage, quantized=True), largest_path(stage), batch()
        exact, rounded = net(x, graph), net(x, graph, quantizer=QUANT)
        assert (exact - rounded).square().mean() < 0.01 * exact.var(), kind


def test_a_relu6_tensor_that_reaches_6_learns_its_scale() -> None:
    stage = elastic_stage("mbv2", "relu6")
    net, graph, x = make_net(stage), largest_path(stage), batch()
    expand = net.ops_by_name[graph.ops[0].name]
    with torch.no_grad():
        expand.gain.mul_(10)
    net.init_quantizers(x, [graph], largest_path(stage, superset=True), QUANT)
    assert float(net.output_quantizer(graph.ops[0], QUANT)[0].detach()) == pytest.approx(6 / ACT_MAX)
    loss(net(x, graph, quantizer=QUANT)).backward()
    assert expand.output.scale.ratio.grad is not None and expand.output.scale.ratio.grad != 0


def test_every_trained_tensor_of_a_quantized_path_gets_a_gradient() -> None:
    stage = elastic_stage("mbv3", "swish")
    net, graph = make_net(stage, quantized=True), largest_path(stage)
    with torch.no_grad():
        for name, p in net.ops_by_name.items():  # narrower than the extremes, so that every tensor has clipped values
            if hasattr(p, "output"):
                p.output.scale.ratio.mul_(0.1 if name.endswith("mul") else 0.6)
    loss(net(batch(), graph, quantizer=QUANT)).backward()
    for op in graph.ops:
        for name, p in net.ops_by_name[op.name].named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, f"{op.name}.{name}"


def test_input_range_sets_the_inputs_grid() -> None:
    net = Elastic(largest_path(elastic_stage("mbv1")), (-1.0, 3.0))
    scale, zero = net.input()
    assert float(scale) == pytest.approx(4 / ACT_MAX) and float(zero_point(zero)) == 64
    net.input.set_range(0.5, 2.0)  # zero is always among the values
    scale, zero = net.input()
    assert float(scale) == pytest.approx(2 / ACT_MAX) and float(zero) == 0
    assert not any(p.requires_grad for p in net.input.parameters())


def test_resize_keeps_what_has_the_size_and_averages_what_shrinks() -> None:
    x = batch(3)
    assert resize(x, HW) is x
    flat = torch.full((2, 3, 16, 16), 0.7)
    torch.testing.assert_close(resize(flat, 12), torch.full((2, 3, 12, 12), 0.7))
    checkers = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(8, 8)[None, None]
    small = resize(checkers, 4)[..., 1:-1, 1:-1]
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.02, rtol=0)  # antialiased: no checkers left
    assert resize(x, 18).shape == (6, 3, 18, 18)
