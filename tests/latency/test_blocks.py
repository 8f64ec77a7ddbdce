"""Latencies of whole blocks: looked up where known, added up of ops elsewhere, the same one by one and many at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evolution.tables import PUBLISHED, needs_published

from spaceevo import latency
from spaceevo.errors import UserError
from spaceevo.evolution import BlockLatency, GeneCode
from spaceevo.evolution.additive import placed_in
from spaceevo.latency.blocks import BlockTable, all_blocks, table_of
from spaceevo.latency.predictor import Predictor, op_features
from spaceevo.latency.published import fit_published
from spaceevo.space import BlockConfig, Hyperspace, SearchSpace, Subnet, load_hyperspace, stage_graph, subnet_graph

SMALL = load_hyperspace("small")


class MadeUp(BlockLatency):
    """Of a block that costs what its numbers say."""

    def __init__(self, hs: Hyperspace) -> None:
        super().__init__(hs, {}, {}, None, None, 0.0)

    def ms(self, blocks: np.ndarray) -> np.ndarray:
        return blocks @ [0.5, 1e-3, 2e-3, 0.1, 3e-3, 0.2, 0.7]


def predictor(hs: Hyperspace = SMALL) -> Predictor:
    space = SearchSpace.sample(hs, np.random.default_rng(0))
    ops = subnet_graph(Subnet.largest(space)).ops
    names = {name for op in ops for name in op_features(op)}
    return Predictor({"int8": dict.fromkeys(sorted(names), 1e-6) | {"run": 0.01}}, table_of(MadeUp(hs)))


def some(space: SearchSpace, count: int) -> list[Subnet]:
    rng = np.random.default_rng(1)
    return [Subnet.sample(space, rng) for _ in range(count)]


@pytest.mark.parametrize("name", ["small", "onnxw"])
def test_every_block_of_every_subnet_is_known(name: str) -> None:
    hs = load_hyperspace(name)
    table, first = table_of(MadeUp(hs)), int(hs.stage0 is not None)
    for net in some(SearchSpace.sample(hs, np.random.default_rng(0)), 5):
        searched = {stage.name for stage in net.space.all_stages[first:]}
        for stage, block, cin, hw in placed_in(net):
            known = table.block_ms(stage, block, cin, hw)
            assert (known is None) == (stage.name not in searched)
            if known is not None:
                kind = hs.blocks.index(stage.block)
                row = (kind, hw, cin, block.kernel, block.width, block.expand or 0, stage.stride)
                assert known == pytest.approx(MadeUp(hs).ms(np.array([row], float))[0])


def test_blocks_are_listed_once() -> None:
    blocks = all_blocks(SMALL)
    assert len(np.unique(blocks, axis=0)) == len(blocks)


def test_a_block_that_is_not_known_adds_up_its_ops() -> None:
    net = some(SearchSpace.sample(SMALL, np.random.default_rng(0)), 1)[0]
    stage, block, cin, hw = next(placed_in(net))
    by_ops = sum(predictor().ops_ms(stage_graph(stage, (block,), cin, hw + 1)))
    assert predictor().block_ms(stage, block, cin, hw + 1) == pytest.approx(by_ops)
    assert predictor().block_ms(stage, block, cin, hw) != pytest.approx(by_ops, rel=0.1)


@pytest.mark.parametrize("name", ["small", "onnxw"])
def test_a_subnet_is_its_blocks_and_what_surrounds_them(name: str) -> None:
    hs = load_hyperspace(name)
    p, space = predictor(hs), SearchSpace.sample(hs, np.random.default_rng(2))
    plain = Predictor(p.coefficients)
    nets = some(space, 30)
    for net in nets:
        blocks = [(p.block_ms(*one), plain.block_ms(*one)) for one in placed_in(net)]
        expected = plain.subnet_ms(net) + sum(known - ops for known, ops in blocks)
        assert p.subnet_ms(net) == pytest.approx(expected)
        each = p.net_ops_ms(net)
        border = plain.subnet_ms(net) - sum(plain.ops_ms(subnet_graph(net)))
        assert sum(each) + border == pytest.approx(expected) and len(each) == len(subnet_graph(net).ops)
    code = GeneCode(space)
    one_by_one = [p.subnet_ms(net) for net in nets]
    np.testing.assert_allclose(p.costs(code)(code.encode(nets)), one_by_one)
    other = some(SearchSpace.sample(hs, np.random.default_rng(3)), 5)
    mixed = [*nets[:5], *other, *nets[5:]]
    np.testing.assert_allclose(p.subnets_ms(mixed), [p.subnet_ms(net) for net in mixed])


def test_a_stage_by_hand() -> None:
    hs = load_hyperspace("onnxw")
    p, stage = predictor(hs), hs.elastic(2, 1)
    (a, b), k, e = stage.widths[:2], stage.block.kernels[0], stage.block.expands[0]
    cin = hs.input_widths(2)[0]
    ms = p.stage_ms(hs, stage=3, block=1, cin=cin, hw=28, blocks=[(k, a, e), (k, b, e)])
    assert ms == pytest.approx(p.blocks_ms(stage, (BlockConfig(k, a, e), BlockConfig(k, b, e)), cin, 28))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    p, path = predictor(), tmp_path / "predictor.json"
    p.save(path, device="x")
    again = latency.load(str(path))
    net = some(SearchSpace.sample(SMALL, np.random.default_rng(0)), 1)[0]
    assert again.subnet_ms(net) == pytest.approx(p.subnet_ms(net), rel=1e-6)
    held = json.loads(path.read_text())
    for wrong in ({"kinds": []}, {"kinds": [], "npz": "AAAA"}, 3):
        path.write_text(json.dumps(held | {"blocks": wrong}))
        with pytest.raises(UserError, match="not a latency predictor"):
            latency.load(str(path))


def test_a_predictor_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="pixel5: neither a device that a predictor comes with the package for"):
        latency.load("pixel5")


@needs_published
@pytest.mark.slow
@pytest.mark.parametrize(("name", "within_1pct", "within_5pct"), [("mobilew", 99.7, 99.9), ("onnxw", 92, 96)])
def test_published_rows_that_a_fit_did_not_see_come_back(name: str, within_1pct: float, within_5pct: float) -> None:
    _, scores = fit_published(PUBLISHED / name, load_hyperspace(name), seed=1)
    assert scores["within_1pct"] > within_1pct and scores["within_5pct"] > within_5pct


@pytest.mark.parametrize("device", ["pixel4", "intel_vnni"])
def test_shipped_predictors_know_their_hyperspace_s_blocks(device: str) -> None:
    p = latency.load(device)
    assert isinstance(p.blocks, BlockTable) and (p.blocks.ms > 0).all()
    hs = load_hyperspace({"pixel4": "mobilew", "intel_vnni": "onnxw"}[device])
    net = some(SearchSpace.sample(hs, np.random.default_rng(0)), 1)[0]
    unknown = [stage.name for stage, *one in placed_in(net) if p.blocks.block_ms(stage, *one) is None]  # type: ignore[arg-type]
    assert set(unknown) == {"stage0"}
