"""One price: the rows of a subnet's stages and what surrounds them add up to the whole graph's latency."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spaceevo.atomic import write_parquet
from spaceevo.evolution import QTScore, load_table
from spaceevo.evolution.files import metadata_of
from spaceevo.latency.ends import ends_of
from spaceevo.latency.predictor import Predictor, border_features, op_features
from spaceevo.space import (
    BlockConfig,
    Hyperspace,
    SearchSpace,
    StageSpec,
    Subnet,
    format_stage,
    load_hyperspace,
    one_of_each,
    stage_graph,
    stage_input_hw,
    subnet_graph,
)


def predictor_of(hs: Hyperspace) -> Predictor:
    """Some coefficient for every feature that a subnet of ``hs`` can have."""
    rng, names = np.random.default_rng(0), set()
    for space, pick in itertools.product(one_of_each(hs), (Subnet.largest, Subnet.smallest)):
        graph = subnet_graph(pick(space))
        names |= {*border_features(graph), *(name for op in graph.ops for name in op_features(op))}
    return Predictor({"int8": {name: float(rng.uniform(1e-8, 1e-7)) for name in sorted(names)} | {"run": 0.01}})


def every_beginning(net: Subnet) -> Iterator[tuple[float, Subnet]]:
    """The subnets that differ from ``net`` in what its table's rows do not tell (stem, stage 0, head width), and how often
    each is drawn."""
    hs, fixed = net.space.hyperspace, len(net.stages) - len(net.space.stages)
    heads = hs.head.final_expand if len(hs.head.final_expand) > 1 else [None]
    for width, depth, head in itertools.product(hs.stem.widths, hs.stem.depths, heads):
        stems = replace(net, stem_width=width, stem_depth=depth, head_width=head)
        if not fixed and width == net.stem_width:
            yield 1.0, stems
        for stage in net.space.all_stages[:fixed]:
            block = [BlockConfig(*c) for c in itertools.product(stage.block.kernels, stage.widths, stage.block.expands)]
            for d in stage.depths:
                subs = [s for s in itertools.product(block, repeat=d) if s[-1].width == net.stages[0][-1].width]
                subs = [s for s in subs if not stage.one_width or len({b.width for b in s}) == 1]
                for sub in subs:
                    yield 1 / len(subs), replace(stems, stages=(sub, *net.stages[1:]))


def rows_of(net: Subnet, predictor: Predictor) -> Iterator[dict]:
    hs = net.space.hyperspace
    searched = net.stages[len(net.stages) - len(hs.stages) :]
    cin = net.stages[0][-1].width if hs.stage0 is not None else net.stem_width
    for i, (stage, blocks, hw) in enumerate(zip(net.space.stages, searched, stage_input_hw(hs, net.resolution), strict=False)):
        graph = stage_graph(stage, blocks, cin, hw)
        yield dict(
            stage=i + 1, type=net.space.types[i], window=net.space.windows[i], cin=cin, hw=hw, resolution=net.resolution,
            config=format_stage(blocks), nsr=0.1, mmacs=1.0, params=1, ms=sum(predictor.ops_ms(graph)),
        )  # fmt: skip
        cin = blocks[-1].width


def only(net: Subnet) -> Hyperspace:
    """Its hyperspace, with the choices of its space alone."""
    space, hs = net.space, net.space.hyperspace

    def narrowed(spec: StageSpec, kind: int) -> StageSpec:
        return replace(spec, types=(kind,), window=len(spec.widths))

    stages = tuple(narrowed(spec, kind) for spec, kind in zip(hs.stages, space.types, strict=True))
    return replace(hs, stages=stages, lut_resolutions=(net.resolution,))


@pytest.mark.parametrize("name", ["demo", "onnxw", "attentive_nas", "ofa_resnet50"])
def test_rows_whose_widths_fit_add_up_to_the_predictor_s_whole_graph(name: str, tmp_path: Path) -> None:
    hs = load_hyperspace(name)
    predictor, rng = predictor_of(hs), np.random.default_rng(0)
    for _ in range(12):
        space = SearchSpace.sample(hs, rng)
        net = Subnet.sample(space, rng, int(rng.choice(hs.lut_resolutions)))
        net = replace(net, space=SearchSpace(only(net), space.types, (0,) * len(space.types)))
        frame = pd.DataFrame(list(rows_of(net, predictor)))
        path = write_parquet(tmp_path / "lut.parquet", frame, metadata_of(ends_of(predictor, net.space.hyperspace)))
        table = load_table(path, net.space.hyperspace)
        keys = [(i, t, 0, net.resolution) for i, t in enumerate(space.types)]
        total = table.fixed_ms[net.resolution] + sum(float(table.ms[key][0]) for key in keys)
        weight, whole = zip(*((w, predictor.graph_ms(subnet_graph(each))) for w, each in every_beginning(net)), strict=True)
        assert total == pytest.approx(np.average(whole, weights=weight), rel=1e-6)
        assert table.rows is not None
        np.testing.assert_array_equal(table.rows.ms, frame.ms)  # the sub-stages' own
        quality = QTScore(table, [total * 1.001, total * 0.999], draws=20, top=5, mode="exact").per_limit(net.space)
        assert quality[0] == pytest.approx(-0.1 * len(keys)) and quality[1] < quality[0]


def test_table_without_the_metadata_is_read_as_before(tmp_path: Path) -> None:
    hs = load_hyperspace("tiny")
    predictor, rng = predictor_of(hs), np.random.default_rng(0)
    net = Subnet.sample(SearchSpace.sample(hs, rng), rng, 16)
    net = replace(net, space=SearchSpace(only(net), net.space.types, (0,) * 4))
    frame = pd.DataFrame(list(rows_of(net, predictor)))
    table = load_table(write_parquet(tmp_path / "lut.parquet", frame, {"fixed_ms": {16: 0.5}}), net.space.hyperspace)
    assert table.fixed_ms == {16: 0.5}
    assert [float(ms[0]) for _, ms in sorted(table.ms.items())] == frame.ms.tolist()
