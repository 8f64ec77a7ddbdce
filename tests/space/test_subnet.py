"""Search spaces and subnets: encodings read back, and nothing ever leaves the space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaceevo.errors import UserError
from spaceevo.evolution import AdditiveCost, GeneCode
from spaceevo.evolution.additive import of_ops
from spaceevo.space import (
    ElasticStage,
    Hyperspace,
    Op,
    SearchSpace,
    Stage,
    Subnet,
    extreme_stage,
    format_stage,
    graph_cost,
    load_hyperspace,
    parse_stage,
    random_stage,
    stage_input_hw,
    subnet_graph,
    superset_graph,
)
from spaceevo.space.blocks import BLOCK_TYPES, NO_EXPAND

PROPERTY = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = sorted(BLOCK_TYPES)
ACTS = st.sampled_from(["relu", "relu6", "hswish", "swish"])


def some(values: list, most: int = 3) -> st.SearchStrategy:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True).map(sorted)


@st.composite
def blocks(draw: st.DrawFn) -> dict:
    kind = draw(st.sampled_from(KINDS))
    expands = {} if kind in NO_EXPAND else {"expands": draw(some([0.5, 1, 1.5, 2, 3]))}
    return {"type": kind, "kernels": draw(some([1, 3, 5, 7])), "act": draw(ACTS), **expands}


@st.composite
def stages(draw: st.DrawFn, types: int) -> dict:
    widths = draw(some([8, 12, 16, 24, 40], 4))
    window = draw(st.integers(1, len(widths)))
    stage = {"widths": widths, "window": window, "depths": draw(some([1, 2, 3])), "stride": draw(st.sampled_from([1, 2]))}
    return {**stage, "one_width": draw(st.booleans()), "types": draw(st.none() | some(list(range(types))))}


@st.composite
def hyperspaces(draw: st.DrawFn) -> Hyperspace:
    """A small random hyperspace; its stage 0, where it has one, always has a shortcut."""
    resolutions = draw(some([8, 11, 16, 21]))
    types = draw(st.lists(blocks(), min_size=1, max_size=3, unique_by=lambda block: block["type"]))
    stage0 = {"block": draw(blocks()), "widths": draw(some([8, 16])), "depths": draw(some([1, 2])), "stride": 1}
    return Hyperspace.from_dict(
        {
            "name": draw(st.sampled_from(["h", "some-name", "a.b"])),
            "blocks": types,
            "stem": {
                **draw(st.sampled_from([{}, {"deep": True}, {"deep": True, "depths": [1, 2]}])),
                "widths": draw(some([8, 16, 24])),
                "kernel": 3,
                "stride": draw(st.sampled_from([1, 2])),
                "act": draw(ACTS),
            },
            "stages": draw(st.lists(stages(len(types)), min_size=1, max_size=3)),
            "head": {
                "final_expand": draw(st.sampled_from([[], [32], [16, 32]])),
                "act": draw(ACTS),
                "feature_mix": draw(st.sampled_from([None, 24])),
            },
            "resolutions": resolutions,
            "lut_resolutions": resolutions[:1],
            "stage0": draw(st.sampled_from([None, stage0])),
        }
    )


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    return SearchSpace.sample(draw(hyperspaces()), np.random.default_rng(draw(SEEDS)))


def assert_stage_within(stage: ElasticStage, sub: Stage) -> None:
    assert len(sub) in stage.depths
    assert not stage.one_width or len({block.width for block in sub}) == 1
    for block in sub:
        assert block.kernel in stage.block.kernels
        assert block.width in stage.widths
        assert block.expand in stage.block.expands


def assert_within(space: SearchSpace, net: Subnet) -> None:
    """Every choice of ``net`` is one that ``space`` offers, of plain types."""
    hs = space.hyperspace
    assert net.space == space
    assert net.stem_width in hs.stem.widths and net.resolution in hs.resolutions and net.stem_depth in hs.stem.depths
    assert net.head_width in (hs.head.final_expand if len(hs.head.final_expand) > 1 else (None,))
    assert len(net.stages) == len(space.all_stages) == len(hs.stages) + (hs.stage0 is not None)
    for stage, sub in zip(space.all_stages, net.stages, strict=True):
        assert_stage_within(stage, sub)
    for searched, spec, window in zip(space.stages, hs.stages, space.windows, strict=True):
        assert searched.widths == spec.widths[window : window + spec.window]


def space_types(space: SearchSpace, op: str) -> str:
    """The block type of the stage that an op belongs to, or nothing for stem and head."""
    return next((stage.block.type for stage in space.all_stages if op.startswith(f"{stage.name}.")), "")


# Encodings


@PROPERTY
@given(hyperspaces(), SEEDS)
def test_space_reads_back(hs: Hyperspace, seed: int) -> None:
    space = SearchSpace.sample(hs, np.random.default_rng(seed))
    assert SearchSpace.parse(str(space), hs) == space


@PROPERTY
@given(spaces(), SEEDS)
def test_subnet_reads_back(space: SearchSpace, seed: int) -> None:
    net = Subnet.sample(space, np.random.default_rng(seed))
    read = Subnet.parse(space, str(net))
    assert read == net and hash(read) == hash(net) and str(read) == str(net)


@PROPERTY
@given(spaces(), SEEDS)
def test_stage_reads_back(space: SearchSpace, seed: int) -> None:
    for stage in space.all_stages:
        sub = random_stage(stage, np.random.default_rng(seed))
        assert parse_stage(format_stage(sub)) == sub == parse_stage(format_stage(sub), stage)


def test_encodings_are_the_published_ones() -> None:
    space = SearchSpace.parse("tiny-0121-2100")
    assert [stage.block.type for stage in space.stages] == ["mbv1", "mbv3", "fused_mb_se", "mbv3"]
    assert [stage.widths for stage in space.stages] == [(24, 32), (16, 24), (16, 24), (16, 24)]
    net = Subnet.parse(space, "d1#1#2#1#1_k3#3#3#3#3#3_w8#24#16#24#16#24_e0#0#2.0#2#1.0#2.0_r12")
    assert str(net) == "d1#1#2#1#1_k3#3#3#3#3#3_w8#24#16#24#16#24_e0#0#2.0#2.0#1.0#2.0_r12"
    assert format_stage(net.stages[0]) == "3#24#None" and format_stage(net.stages[1]) == "3#16#2.0_3#24#2.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiny", "must be <hyperspace>-<block type a stage>-<width window a stage>"),
        ("other-0000-0000", "hyperspace other is not tiny"),
        ("tiny-000-0000", "block types '000' must be 4 digits"),
        ("tiny-0000-00000", "width windows '00000' must be 4 digits"),
        ("tiny-00a0-0000", "block types '00a0' must be 4 digits"),
        ("tiny-0030-0000", "block types: stage 3 is 3, must be from 0 to 2"),
        ("tiny-0000-0009", "width windows: stage 4 is 9, must be from 0 to 2"),
    ],
)
def test_bad_space_names_the_field_its_value_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        SearchSpace.parse(text, load_hyperspace("tiny"))
    assert str(error.value).startswith(f"space={text}: ") and said in str(error.value)


def test_space_of_an_unknown_hyperspace_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"hyperspace=nope: no such hyperspace; there are: attentive_nas, demo, .*tiny"):
        SearchSpace.parse("nope-0000-0000")


GOOD = "d1#1#1#1#1_k3#3#3#3#3_w8#8#8#16#16_e0#0#2.0#1.0#0_r12"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("d1#1#1#1#1_", "", "must be d<depths>_k<kernels>_w<widths>_e<expands>_r<resolution>"),
        ("_k3", "_q3", "must be d<depths>_k<kernels>_w<widths>_e<expands>_r<resolution>"),
        ("k3#3", "k3#x", "subnet field k: '3#x#3#3#3' must be numbers joined by #"),
        ("d1#1#1#1#1", "d1#1#1#1", "subnet field d: 4 depths, must be 1 and then 4, one a stage"),
        ("d1#1#1#1#1", "d2#1#1#1#1", "subnet field d: 5 depths, must be 1 and then 4, one a stage"),
        ("k3#3", "k3", "subnet field k: 4 values, must be 5, one a block"),
        ("d1#1#1#1#1", "d1#1#2#1#1", "subnet field k: 5 values, must be 6, one a block"),
        ("w8#8#8", "w9#8#8", "subnet field w (stem): 9 must be one of 8"),
        ("w8#8#8", "w8#8#24", "subnet field w (stage2): 24 must be one of 8, 16"),
        ("k3#3#3#3#3", "k3#3#3#5#3", "subnet field k (stage3): 5 must be one of 3"),
        ("k3#3#3#3#3", "k5#3#3#3#3", "subnet field k (stem): 5 must be one of 3"),
        ("#1.0#0", "#1.5#0", "subnet field e (stage3): 1.5 must be one of 1.0, 2.0"),
        ("_r12", "_r14", "subnet field r: 14 must be one of 12, 16"),
    ],
)
def test_bad_subnet_names_the_field_its_value_and_what_is_allowed(old: str, new: str, said: str) -> None:
    space = SearchSpace.parse("tiny-0120-0000")
    assert str(Subnet.parse(space, GOOD)) == GOOD and old in GOOD
    with pytest.raises(UserError) as error:
        Subnet.parse(space, GOOD.replace(old, new, 1))
    assert said in str(error.value)


def test_bad_depth_names_the_stage() -> None:
    space = SearchSpace.parse("tiny-0000-0000")
    with pytest.raises(UserError, match=r"subnet field d \(stage1\): 2 must be one of 1"):
        Subnet.parse(space, "d1#2#1#1#1_k3#3#3#3#3#3_w8#8#8#8#16#16_e0#0#0#0#0#0_r12")


@pytest.mark.parametrize("part", ["3#16", "3#16#2#1", "a#16#2", "3##2", ""])
def test_bad_sub_stage_names_the_block(part: str) -> None:
    with pytest.raises(UserError) as error:
        parse_stage(f"3#16#2.0_{part}")
    assert f"block {part!r} must be kernel#width#expand" in str(error.value)


def test_digits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="block types"):
        SearchSpace.parse("tiny-0²00-0000")


@pytest.mark.parametrize("depth", ["nan", "inf"])
def test_depths_that_are_no_counts_are_refused(depth: str) -> None:
    with pytest.raises(UserError, match="subnet field d"):
        Subnet.parse(SearchSpace.parse("tiny-0120-0000"), GOOD.replace("d1#1", f"d1#{depth}", 1))


def test_two_resolutions_are_refused() -> None:
    with pytest.raises(UserError, match="subnet field r"):
        Subnet.parse(SearchSpace.parse("tiny-0120-0000"), f"{GOOD}#16")


# Sampling, mutation, crossover


@PROPERTY
@given(spaces(), SEEDS, st.floats(0, 1))
def test_sample_mutation_and_crossover_stay_inside_the_space(space: SearchSpace, seed: int, probability: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = Subnet.sample(space, rng), Subnet.sample(space, rng)
    mutant, child = a.mutate(rng, probability), a.crossover(b, rng)
    for net in (a, b, mutant, child, mutant.crossover(child, rng).mutate(rng), Subnet.smallest(space), Subnet.largest(space)):
        assert_within(space, net)
    for mine, *parents in zip(child.stages, a.stages, b.stages, strict=True):
        assert mine in parents
    assert child.stem_width in (a.stem_width, b.stem_width) and child.resolution in (a.resolution, b.resolution)


@PROPERTY
@given(spaces(), SEEDS)
def test_mutation_of_probability_0_and_crossover_with_itself_change_nothing(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = Subnet.sample(space, rng)
    assert net.mutate(rng, 0.0) == net == net.crossover(net, rng)


@PROPERTY
@given(spaces(), SEEDS)
def test_same_seed_same_subnets(space: SearchSpace, seed: int) -> None:
    def family() -> list[Subnet]:
        rng = np.random.default_rng(seed)
        a, b = Subnet.sample(space, rng), Subnet.sample(space, rng)
        return [a, b, a.mutate(rng, 0.5), a.crossover(b, rng)]

    assert family() == family()


def test_mutation_redraws_the_asked_share_of_choices() -> None:
    space, rng = SearchSpace.parse("small-1111-0000"), np.random.default_rng(0)
    net = Subnet.largest(space)
    mutants = [net.mutate(rng, 0.2) for _ in range(300)]
    for field in ("kernel", "width", "expand"):  # two values each: of those redrawn half stay as they were
        changed = [getattr(m.stages[i][0], field) != getattr(net.stages[i][0], field) for m in mutants for i in range(4)]
        assert 0.07 < np.mean(changed) < 0.13


def test_blocks_that_mutation_adds_are_random() -> None:
    space, rng = SearchSpace.parse("small-1111-0000"), np.random.default_rng(0)
    net = Subnet.smallest(space)  # every stage one block deep, with the least of two kernels, widths and expands
    added = [sub[1] for _ in range(600) for sub in net.mutate(rng, 0.1).stages if len(sub) == 2]
    least = net.stages[0][0]
    assert len(added) > 60
    for share in (np.mean([b.kernel == least.kernel for b in added]), np.mean([b.expand == least.expand for b in added])):
        assert 0.35 < share < 0.65


def test_sampling_and_mutation_reach_every_choice() -> None:
    space = SearchSpace.parse("small-1613-0212")
    rng = np.random.default_rng(0)
    for nets in (
        [Subnet.sample(space, rng) for _ in range(100)],
        [Subnet.smallest(space).mutate(rng, 0.5) for _ in range(200)],
    ):
        assert {net.resolution for net in nets} == {20, 24, 28}
        for i, stage in enumerate(space.stages):
            subs = [net.stages[i] for net in nets]
            assert {len(sub) for sub in subs} == set(stage.depths)
            for name, values in (("kernel", stage.block.kernels), ("width", stage.widths), ("expand", stage.block.expands)):
                assert {getattr(block, name) for sub in subs for block in sub} == set(values)


def test_resolution_can_be_asked_for() -> None:
    space, rng = SearchSpace.parse("tiny-0000-0000"), np.random.default_rng(0)
    asked = [Subnet.sample(space, rng, 16), Subnet.smallest(space, 16), Subnet.largest(space, 12)]
    assert [net.resolution for net in asked] == [16, 16, 12]


@PROPERTY
@given(hyperspaces(), SEEDS)
def test_mutation_of_a_space_changes_one_thing_of_one_stage(hs: Hyperspace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = SearchSpace.sample(hs, rng)
    stage = int(rng.integers(len(hs.stages)))
    typed, moved = space.mutate_type(stage, rng), space.mutate_width(stage, rng)
    assert typed.windows == space.windows and moved.types == space.types
    for old, new, choices in (
        (space.types, typed.types, hs.stages[stage].types),
        (space.windows, moved.windows, range(hs.stages[stage].windows)),
    ):
        differing = [i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        assert differing == ([stage] if len(choices) > 1 else [])
        assert new[stage] in choices


def test_mutation_of_a_space_reaches_every_other_choice() -> None:
    space, rng = SearchSpace.parse("tiny-0120-0120"), np.random.default_rng(0)
    assert {space.mutate_type(1, rng).types[1] for _ in range(50)} == {0, 2}
    assert {space.mutate_width(2, rng).windows[2] for _ in range(50)} == {0, 1}


def test_random_spaces_are_uniform() -> None:
    hs, rng = load_hyperspace("tiny"), np.random.default_rng(0)
    sampled = [SearchSpace.sample(hs, rng) for _ in range(900)]
    for genes in (np.array([s.types for s in sampled]), np.array([s.windows for s in sampled])):
        shares = np.stack([(genes == value).mean(0) for value in range(3)])
        assert np.all(np.abs(shares - 1 / 3) < 0.06)


# Sizes


def test_subnets_counts_them_all() -> None:
    space = SearchSpace.parse("tiny-0210-0000")

    def enumerate_stage(stage: ElasticStage) -> int:
        block = list(itertools.product(stage.block.kernels, stage.widths, stage.block.expands))
        return sum(1 for depth in stage.depths for _ in itertools.product(block, repeat=depth))

    assert [enumerate_stage(stage) for stage in space.stages] == [2, 4 + 16, 2, 2] == [s.subnets for s in space.stages]
    assert space.subnets == 2 * 20 * 2 * 2 * 2  # and two resolutions


@PROPERTY
@given(spaces(), SEEDS)
def test_no_subnet_costs_more_than_the_superset(space: SearchSpace, seed: int) -> None:
    whole = graph_cost(superset_graph(space))
    for net in (Subnet.sample(space, np.random.default_rng(seed)), Subnet.smallest(space), Subnet.largest(space)):
        assert net.cost().mmacs <= whole.mmacs and net.cost().params <= whole.params


def price(op: Op) -> float:
    """Something of every op, weighted or not, so that blocks of all types compete."""
    return op.macs / 1e6 + 1e-6 * op.cout * op.out_hw**2 + 1e-3


@PROPERTY
@given(spaces(), SEEDS)
def test_no_subnet_costs_less_than_the_cheapest(space: SearchSpace, seed: int) -> None:
    code, rng = GeneCode(space), np.random.default_rng(seed)
    cost = AdditiveCost(code, lambda net: sum(map(price, subnet_graph(net).ops)), of_ops(price))
    (cheapest,) = code.decode(cost.cheapest())
    assert_within(space, cheapest)
    assert (code.encode([cheapest]) == cost.cheapest()).all()
    least = sum(map(price, subnet_graph(cheapest).ops))
    for net in [*code.decode(code.mutate(np.repeat(cost.cheapest(), 20, 0), 0.2, rng)), Subnet.smallest(space)]:
        assert least <= sum(map(price, subnet_graph(net).ops)) + 1e-9


@PROPERTY
@given(spaces(), SEEDS)
def test_extreme_stages_are_those_of_the_extreme_subnets(space: SearchSpace, seed: int) -> None:
    for stage, small, large in zip(space.all_stages, Subnet.smallest(space).stages, Subnet.largest(space).stages, strict=True):
        assert extreme_stage(stage, largest=False) == small and extreme_stage(stage, largest=True) == large
        sub = random_stage(stage, np.random.default_rng(seed))
        assert_stage_within(stage, sub)
        assert len(small) <= len(sub) <= len(large)
        for a, b, c in zip(small, sub, large, strict=False):
            assert a.kernel <= b.kernel <= c.kernel and a.width <= b.width <= c.width
            assert (a.expand or 0) <= (b.expand or 0) <= (c.expand or 0)


@PROPERTY
@given(spaces(), SEEDS)
def test_superset_graph_holds_every_op_of_every_subnet(space: SearchSpace, seed: int) -> None:
    whole = {op.name: op for op in superset_graph(space).ops}
    for op in subnet_graph(Subnet.sample(space, np.random.default_rng(seed))).ops:
        top = whole[op.name]
        assert (top.kind, top.stride, top.bias) == (op.kind, op.stride, op.bias)
        if "_k3" not in space_types(space, op.name):  # what ends a stack in one subnet is amid it in another
            assert (top.act, top.norm) == (op.act, op.norm)
        assert top.norm >= op.norm
        for size in ("cin", "cout", "kernel", "in_hw", "out_hw"):
            assert getattr(top, size) >= getattr(op, size), (size, op.name)


@PROPERTY
@given(spaces(), SEEDS)
def test_stage_input_sizes_are_the_graph_s(space: SearchSpace, seed: int) -> None:
    net = Subnet.sample(space, np.random.default_rng(seed))
    ops = subnet_graph(net).ops
    first = {}
    for op in reversed(ops):
        first[op.name.split(".")[0]] = op.in_hw
    names = [*(stage.name for stage in space.stages), "head"]
    assert stage_input_hw(space.hyperspace, net.resolution) == [first[name] for name in names]


def test_superset_graph_holds_the_shortcut_that_only_smaller_subnets_have() -> None:
    block = {"type": "mbv2", "kernels": [3], "expands": [1], "act": "relu"}
    stage0 = {"block": block, "widths": [8, 16], "depths": [1], "stride": 1, "forced_residual": False}
    space = SearchSpace.parse("tiny-0000-0000", Hyperspace.from_dict({**_without_mbv1(), "stage0": stage0}))
    whole = {op.name for op in superset_graph(space).ops}  # 8 -> 16: no identity, but there is one for 8 -> 8
    assert {op.name for op in subnet_graph(Subnet.smallest(space)).ops} <= whole


def _without_mbv1() -> dict:
    hs = load_hyperspace("tiny").to_dict()
    return {**hs, "blocks": hs["blocks"][1:], "stages": [{**stage, "types": None} for stage in hs["stages"]]}


def test_more_windows_than_digits_are_refused() -> None:
    stage = {"widths": [8 * n for n in range(1, 13)], "window": 2, "depths": [1], "stride": 1}
    with pytest.raises(UserError, match=r"hyperspace\.stages\.0\.widths=.*at most 10 windows"):
        Hyperspace.from_dict({**_without_mbv1(), "stages": [stage]})
