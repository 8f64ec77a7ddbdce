"""Which models a profile measures, and that their text stands for the same graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from spaceevo.latency.sampling import graph_of, sample_models
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, parse_stage, subnet_graph


@pytest.mark.parametrize("name", ["tiny", "demo", "demo.conv"])
def test_blocks_cover_every_stage_and_type_evenly(name: str) -> None:
    hs = load_hyperspace(name)
    pairs = len(hs.stages) * len(hs.blocks)
    samples = sample_models(hs, 3 * pairs + 1, 5, np.random.default_rng(0))
    counts = Counter(tuple(sample.spec.split(":")[:2]) for sample in samples if sample.kind == "block")
    assert len(counts) == pairs and set(counts.values()) == {3, 4}
    assert len({sample.name for sample in samples}) == len(samples)
    assert [sample.kind for sample in samples].count("subnet") == 5


def test_block_s_text_stands_for_its_graph() -> None:
    hs = load_hyperspace("small")
    cins, sizes = set(), set()
    for sample in sample_models(hs, 280, 0, np.random.default_rng(0)):
        stage, block, cin, hw, config = sample.spec.split(":")
        spec, choice = hs.stages[int(stage)], hs.blocks[int(block)]
        graph, subs = graph_of(sample.kind, sample.spec, hs), parse_stage(config)
        assert (graph.input.channels, graph.input.hw) == (int(cin), int(hw))
        assert len(subs) in spec.depths and graph.output.channels == subs[-1].width
        assert graph.output.hw == -(-int(hw) // spec.stride)
        assert {op.name.split(".")[0] for op in graph.ops} == {f"stage{int(stage) + 1}"}
        assert {op.name.split(".")[1] for op in graph.ops} == {str(i) for i in range(len(subs))}
        for i, sub in enumerate(subs):
            assert sub.kernel in choice.kernels and sub.width in spec.widths and sub.expand in choice.expands
            kernels = [op.kernel for op in graph.ops if op.name.startswith(f"stage{int(stage) + 1}.{i}.") and op.has_weight]
            assert max(kernels) == sub.kernel
        inputs = hs.stem.widths if stage == "0" else hs.stages[int(stage) - 1].widths
        assert int(cin) in inputs
        cins.add((stage, int(cin)))
        sizes.add((stage, int(hw)))
    assert len(cins) == sum(len(w) for w in (hs.stem.widths, *(s.widths for s in hs.stages[:-1])))
    assert {hw for stage, hw in sizes if stage == "0"} == {10, 12, 14}  # half of 20, 24, 28
    assert {hw for stage, hw in sizes if stage == "2"} == {5, 6, 7}


def test_stage_0_gives_the_first_stage_its_input() -> None:
    data = load_hyperspace("small.conv").to_dict()
    block = {"type": "mbv2", "kernels": [3], "expands": [1], "act": "relu"}
    hs = type(load_hyperspace("tiny")).from_dict(
        {**data, "stage0": {"block": block, "widths": [40, 48], "depths": [1], "stride": 2}}
    )
    specs = [sample.spec.split(":") for sample in sample_models(hs, 64, 0, np.random.default_rng(0))]
    assert {(int(cin), int(hw)) for stage, _, cin, hw, _ in specs if stage == "0"} <= {
        (cin, hw) for cin in (40, 48) for hw in (5, 6, 7)
    }


def test_subnet_s_text_stands_for_its_graph() -> None:
    hs = load_hyperspace("tiny")
    samples = sample_models(hs, 0, 30, np.random.default_rng(0))
    assert len({sample.spec for sample in samples}) == 30
    for sample in samples:
        space, net = sample.spec.split(":")
        rebuilt = Subnet.parse(SearchSpace.parse(space), net)
        graph = graph_of("subnet", sample.spec, hs)
        assert graph == subnet_graph(rebuilt) and graph.input.hw == rebuilt.resolution
        assert sum(op.macs for op in graph.ops) / 1e6 == pytest.approx(rebuilt.cost().mmacs)


def test_same_seed_same_samples() -> None:
    hs = load_hyperspace("tiny")
    a, b, c = (sample_models(hs, 10, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert a == b != c
