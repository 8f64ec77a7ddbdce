"""What each block type costs, against formulas written by hand, and the op graph that it emits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.errors import UserError
from spaceevo.space import (
    BlockChoice,
    BlockConfig,
    Cost,
    ElasticStage,
    Graph,
    SearchSpace,
    Subnet,
    graph_cost,
    load_hyperspace,
    round8,
    stage_cost,
    stage_graph,
    subnet_graph,
)
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND
from spaceevo.space.standard import STANDARD, standard_graph


def by_hand8(channels: float) -> int:
    """The nearest multiple of 8 (a tie goes up), one more where that is over 10 % less than was asked."""
    near = min(range(8, int(channels) + 17, 8), key=lambda m: (abs(m - channels), -m))
    return near + 8 if near < 0.9 * channels else near


def conv(cin: int, cout: int, kernel: int, hw: int, groups: int = 1) -> tuple[int, int]:
    """Multiply-adds and parameters of a convolution with BatchNorm; ``hw`` is its output's size."""
    weights = cin // groups * cout * kernel * kernel
    return weights * hw * hw, weights + 2 * cout


def se(channels: int, mid: int) -> tuple[int, int]:
    """Of squeeze-and-excitation: two 1x1 convolutions with biases on a 1x1 map."""
    return 2 * channels * mid, 2 * channels * mid + mid + channels


def by_hand(kind: str, cin: int, kernel: int, width: int, expand: float, stride: int, hw: int) -> Cost:
    """Of one block, written from the paper's figures and not from the code."""
    out = (hw + stride - 1) // stride
    if kind == "mbv1":
        parts = [conv(cin, cin, kernel, out, groups=cin), conv(cin, width, 1, out)]
    elif kind == "mbv1_dual":
        parts = [conv(cin, cin, kernel, out, groups=cin), conv(cin, width, 1, out)]
        parts += [conv(width, width, kernel, out, groups=width), conv(width, width, 1, out)]
    elif kind.startswith("mbv"):
        hidden = by_hand8(cin * expand)
        parts = [] if expand == 1 else [conv(cin, hidden, 1, hw)]
        if kind.endswith("_k3"):  # as many 3x3 convolutions as see as far, one BatchNorm after them
            steps = {1: 1, 3: 1, 5: 2, 7: 3}[kernel]
            macs, _ = conv(hidden, hidden, 3, out, groups=hidden)
            parts.append((steps * macs, steps * 9 * hidden + 2 * hidden))
        else:
            parts.append(conv(hidden, hidden, kernel, out, groups=hidden))
        parts.append(conv(hidden, width, 1, out))
        if kind.startswith("mbv3"):
            parts.append(se(hidden, by_hand8(hidden // 4)))
    elif kind == "conv":
        return Cost(*(f(n) for f, n in zip((lambda m: m / 1e6, int), conv(cin, width, kernel, out), strict=True)))
    elif kind == "basic":
        parts = [conv(cin, width, kernel, out), conv(width, width, kernel, out)]
    elif kind.startswith("residual_bottleneck"):
        hidden = by_hand8(width * expand)
        parts = [conv(cin, hidden, 1, hw), conv(hidden, hidden, kernel, out), conv(hidden, width, 1, out)]
        if kind.endswith("_se"):
            parts.append(se(hidden, by_hand8(cin // 4)))
    else:
        hidden = by_hand8(cin * expand)
        parts = [conv(cin, hidden, kernel, out), conv(hidden, width, 1, out)]
        if kind == "fused_mb_se":
            parts.append(se(hidden, by_hand8(cin // 4)))
    if stride != 1 or cin != width:
        parts.append(conv(cin, width, 1, out))
    return Cost(sum(macs for macs, _ in parts) / 1e6, sum(params for _, params in parts))


def stage_of(kind: str, stride: int = 1, act: str = "relu", forced: bool = True) -> ElasticStage:
    return ElasticStage("stage1", BlockChoice(kind, (3, 5), (1.0, 2.0), act), (16, 24), (1, 2), stride, forced)


def one_block(kind: str, cin: int, kernel: int, width: int, expand: float, stride: int, hw: int, **stage: object) -> Graph:
    block = BlockConfig(kernel, width, None if kind in NO_EXPAND else expand)
    return stage_graph(stage_of(kind, stride, **stage), (block,), cin, hw)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(BLOCK_TYPES)),
    st.integers(1, 12).map(lambda n: 8 * n),
    st.sampled_from([1, 3, 5, 7]),
    st.integers(1, 12).map(lambda n: 8 * n),
    st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 6.0, 8.0]),
    st.sampled_from([1, 2]),
    st.integers(1, 33),
)
def test_block_costs_what_the_formula_says(
    kind: str, cin: int, kernel: int, width: int, expand: float, stride: int, hw: int
) -> None:
    cost = graph_cost(one_block(kind, cin, kernel, width, expand, stride, hw))
    expected = by_hand(kind, cin, kernel, width, expand, stride, hw)
    assert cost.params == expected.params
    assert cost.mmacs == pytest.approx(expected.mmacs, rel=1e-12)


# Worked out on paper: 16 channels at 8x8, kernel 3, 24 channels out, expand 2 (hidden 32, or 48 in a bottleneck), stride 2.
@pytest.mark.parametrize(
    ("kind", "macs", "params"),
    [
        ("conv", 16 * 3456, 3456 + 48),
        ("basic", 16 * (3456 + 5184 + 384), (3456 + 48) + (5184 + 48) + (384 + 48)),
        ("mbv1", 16 * (144 + 384 + 384), (144 + 32) + (384 + 48) + (384 + 48)),
        ("mbv2", 64 * 512 + 16 * (288 + 768 + 384), (512 + 64) + (288 + 64) + (768 + 48) + (384 + 48)),
        ("mbv3", 64 * 512 + 16 * (288 + 768 + 384) + 512, 2176 + 512 + 8 + 32),
        ("mbv1_dual", 16 * (144 + 384 + 216 + 576 + 384), (144 + 32) + 2 * (384 + 48) + (216 + 48) + (576 + 48)),
        ("residual_bottleneck", 64 * 768 + 16 * (20736 + 1152 + 384), (768 + 96) + (20736 + 96) + (1152 + 48) + (384 + 48)),
        ("residual_bottleneck_se", 64 * 768 + 16 * (20736 + 1152 + 384) + 768, 23328 + 768 + 8 + 48),
        ("fused_mb", 16 * (4608 + 768 + 384), (4608 + 64) + (768 + 48) + (384 + 48)),
        ("fused_mb_se", 16 * (4608 + 768 + 384) + 512, 5920 + 512 + 8 + 32),
    ],
)
def test_block_costs_what_was_worked_out_on_paper(kind: str, macs: int, params: int) -> None:
    assert graph_cost(one_block(kind, 16, 3, 24, 2.0, 2, 8)) == Cost(macs / 1e6, params)


def test_the_seven_block_types_of_the_paper_are_there() -> None:
    paper = {"mbv1", "mbv2", "mbv3", "residual_bottleneck", "residual_bottleneck_se", "fused_mb", "fused_mb_se"}
    release = {"mbv1_dual", "mbv2_k3", "mbv3_k3"}
    assert set(BLOCK_TYPES) == paper | release | {"conv", "basic"}
    assert paper == {block.type for block in load_hyperspace("small").blocks}
    assert paper == {block.type for block in load_hyperspace("paper").blocks}


@given(st.floats(0.5, 4000))
def test_round8_keeps_at_least_90_percent_and_adds_less_than_8(channels: float) -> None:
    rounded = round8(channels)
    assert rounded % 8 == 0 and rounded >= 8
    assert 0.9 * channels <= rounded < channels + 8
    assert rounded == by_hand8(channels)


@given(st.integers(1, 500), st.integers(1, 500))
def test_round8_keeps_multiples_of_8_and_never_falls(a: int, b: int) -> None:
    assert round8(8 * a) == 8 * a
    assert round8(min(a, b)) <= round8(max(a, b))


def test_only_a_stage_s_first_block_has_its_stride() -> None:
    blocks = (BlockConfig(3, 24, 2.0), BlockConfig(5, 16, 1.0), BlockConfig(3, 16, 2.0))
    cost = graph_cost(stage_graph(stage_of("mbv2", stride=2), blocks, 16, 9))
    parts = [
        by_hand("mbv2", 16, 3, 24, 2.0, 2, 9),
        by_hand("mbv2", 24, 5, 16, 1.0, 1, 5),
        by_hand("mbv2", 16, 3, 16, 2.0, 1, 5),
    ]
    assert cost.params == sum(part.params for part in parts)
    assert cost.mmacs == pytest.approx(sum(part.mmacs for part in parts))


def test_stage_cost_is_the_cost_of_the_hyperspace_s_stage() -> None:
    hs = load_hyperspace("small")
    cost = stage_cost(hs, 2, 5, 16, 14, [(3, 24, 2.0), (3, 32, 1.0)])  # stage 2 has stride 2, block 5 is fused_mb
    parts = [by_hand("fused_mb", 16, 3, 24, 2.0, 2, 14), by_hand("fused_mb", 24, 3, 32, 1.0, 1, 7)]
    scalars = 3 * 6  # of the quantizers of six convolutions: two a block and a shortcut's
    assert cost == Cost(pytest.approx(sum(p.mmacs for p in parts)), sum(p.params for p in parts) + scalars)


@pytest.mark.parametrize("mix", [None, 40])
def test_subnet_costs_its_stem_stages_and_head(mix: int | None) -> None:
    hs = load_hyperspace("tiny")
    hs = replace(hs, head=replace(hs.head, feature_mix=mix), channels=3, classes=10)
    space = SearchSpace.parse("tiny-0121-0122", hs)
    net = Subnet.parse(space, "d1#1#2#1#1_k3#3#3#3#3#3_w8#16#16#24#32#40_e0#0#2#2#2#2_r16")
    last = 40 if mix is None else mix
    parts = [
        Cost(64 * 216 / 1e6, 216 + 16),  # stem: 3x3 of stride 2, 3 -> 8, from 16x16 to 8x8
        by_hand("mbv1", 8, 3, 16, 1, 1, 8),
        by_hand("mbv3", 16, 3, 16, 2, 2, 8),
        by_hand("mbv3", 16, 3, 24, 2, 1, 4),
        by_hand("fused_mb_se", 24, 3, 32, 2, 1, 4),
        by_hand("mbv3", 32, 3, 40, 2, 2, 4),
        Cost(4 * 40 * 48 / 1e6, 40 * 48 + 96),  # head: 1x1 to 48 at 2x2
        Cost(48 * 10 / 1e6, 48 * 10 + 10),  # classifier with a bias
    ]
    if mix is not None:
        parts[-1:] = [Cost(48 * mix / 1e6, 48 * mix + 2 * mix), Cost(last * 10 / 1e6, last * 10 + 10)]
    assert net.cost().params == sum(part.params for part in parts)
    assert net.cost().mmacs == pytest.approx(sum(part.mmacs for part in parts))


@pytest.mark.parametrize("kind", sorted(BLOCK_TYPES))
@pytest.mark.parametrize("act", ["relu", "relu6", "hswish", "swish"])
def test_activations_are_fused_or_ops_of_their_own(kind: str, act: str) -> None:
    graph = one_block(kind, 16, 3, 16, 2.0, 1, 8, act=act)
    fused = [op.name for op in graph.ops if op.act == act and ".se." not in op.name]  # kernel 3: a stack of one
    own = [op.name.removesuffix("_act") for op in graph.ops if op.kind == act]
    activated = {  # linear bottlenecks: nothing after MB's last convolution, nor after its add
        "conv": ["conv"],
        "basic": ["conv1", "shortcut"],
        "mbv1": ["depthwise", "pointwise"],
        "mbv1_dual": ["depthwise1", "pointwise1", "depthwise2", "pointwise2"],
        "mbv2": ["expand", "depthwise"],
        "mbv3": ["expand", "depthwise"],
        "mbv2_k3": ["expand", "depthwise0"],
        "mbv3_k3": ["expand", "depthwise0"],
        "residual_bottleneck": ["reduce", "conv", "shortcut"],
        "residual_bottleneck_se": ["reduce", "conv", "shortcut"],
        "fused_mb": ["expand"],
        "fused_mb_se": ["expand"],
    }[kind]
    expected = [f"stage1.0.{name}" for name in activated]
    assert (fused, own) == ((expected, []) if act in ("relu", "relu6") else ([], expected))


@pytest.mark.parametrize("kind", ["mbv2_k3", "mbv3_k3"])
def test_a_stack_is_normalized_and_activated_at_its_end(kind: str) -> None:
    ops = [op for op in one_block(kind, 16, 7, 16, 2.0, 2, 9, act="relu6").ops if op.kind == "depthwise"]
    assert [(op.kernel, op.stride, op.norm, op.bias, op.act) for op in ops] == [
        (3, 2, False, False, None),
        (3, 1, False, False, None),
        (3, 1, True, False, "relu6"),
    ]


@pytest.mark.parametrize("kind", ["mbv3", "mbv3_k3", "residual_bottleneck_se", "fused_mb_se"])
def test_squeeze_and_excitation_multiplies_by_a_gate_of_the_same_tensor(kind: str) -> None:
    graph = one_block(kind, 16, 3, 24, 2.0, 2, 8, act="hswish")
    ops = {op.name: op for op in graph.ops}
    mean, reduce, gate, mul = (ops[f"stage1.0.se.{name}"] for name in ("mean", "reduce", "gate", "mul"))
    assert mul.inputs == (mean.inputs[0], gate.name)
    assert (mean.out_hw, reduce.act, gate.act, reduce.bias, gate.bias, reduce.norm, gate.norm) == (
        1,
        "relu",
        "hsigmoid",
        True,
        True,
        False,
        False,
    )
    assert mul.out_hw == 4 and gate.cout == mul.cout == ops[mean.inputs[0]].cout


@pytest.mark.parametrize("kind", sorted(set(BLOCK_TYPES) - {"conv"}))  # a plain convolution has none
@pytest.mark.parametrize(("width", "stride"), [(16, 1), (24, 1), (16, 2)])
def test_shortcut_is_the_identity_only_where_shapes_agree(kind: str, width: int, stride: int) -> None:
    def shortcut(forced: bool) -> tuple[str, ...] | None:
        graph = one_block(kind, 16, 3, width, 2.0, stride, 8, forced=forced)
        adds = [op for op in graph.ops if op.kind == "add"]
        assert len(adds) <= 1
        return adds[0].inputs[1:] if adds else None

    same = (width, stride) == (16, 1)
    assert shortcut(forced=True) == (("input",) if same else ("stage1.0.shortcut_conv",))
    assert shortcut(forced=False) == (("input",) if same else None)


def test_graph_runs_in_order_and_tensors_fit() -> None:
    hs = load_hyperspace("small")
    space = SearchSpace.parse("small-2465-0122", hs)
    graph = subnet_graph(Subnet.largest(space))
    shapes = {"input": (3, 28)}
    for op in graph.ops:
        assert op.name not in shapes
        assert shapes[op.inputs[0]] == (op.cin, op.in_hw)
        if op.kind == "add":
            assert {shapes[name] for name in op.inputs} == {(op.cout, op.out_hw)}
        shapes[op.name] = (op.cout, op.out_hw)
    readers = graph.consumers()
    assert [name for name in shapes if name not in readers] == ["classifier"] == [graph.output.name]
    assert (graph.output.channels, graph.output.hw) == (hs.classes, 1)


def test_a_made_up_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="'gelu': must be one of relu, relu6, hswish, swish"):
        one_block("mbv2", 16, 3, 16, 2.0, 1, 8, act="gelu")


def test_the_demo_hyperspace_holds_the_plain_ladder() -> None:
    """Four, five and six plain 3x3 convolutions of widths 16, 32, 48, 96 are subnets of one of its spaces."""
    hs = load_hyperspace("demo").with_task(1, 10)
    space = SearchSpace.parse("demo-000-111", hs)

    def macs(graph: Graph) -> list[int]:
        return [op.macs for op in graph.ops]

    for name, stages in (
        ("plain4", ((32,), (48,), (96,))),
        ("plain5", ((32,), (48, 48), (96,))),
        ("plain", ((32, 32), (48, 48), (96,))),
    ):
        blocks = tuple(tuple(BlockConfig(3, width, None) for width in stage) for stage in stages)
        net = Subnet.parse(space, str(Subnet(space, 16, blocks, 28)))
        assert macs(subnet_graph(net)) == macs(standard_graph(name, 1.0, 1, 10, 28))


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize(("hw", "last"), [(28, 4), (32, 4), (224, 7)])
def test_standard_networks_end_on_a_map_that_suits_the_images(name: str, hw: int, last: int) -> None:
    graph = standard_graph(name, 1.0, 3, 7, hw)
    assert graph.output.channels == 7
    pool = next(op for op in graph.ops if op.name == "head.pool")
    strides = 1 + sum(stage.stride == 2 for stage in STANDARD[name].stages)
    assert pool.in_hw == (last if strides >= 5 or hw < 100 else -(-hw // 2**strides))


def test_an_unknown_standard_network_is_named() -> None:
    with pytest.raises(UserError, match=r"baselines=vgg: no such baselines; there are: plain4"):
        standard_graph("vgg", 1.0, 1, 10, 28)
