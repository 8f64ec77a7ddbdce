"""A table of few rows as a dense one: exact latencies, a smooth model's NSR, and the order of spaces that it gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import kendalltau

from spaceevo.evolution import Ends, QTScore, Rows, Table
from spaceevo.evolution.additive import of_ops
from spaceevo.evolution.dense import SUB_STAGES, DenseRows
from spaceevo.evolution.halves import agreement, halves
from spaceevo.evolution.points import choose, points, sub_stages
from spaceevo.evolution.table import assemble
from spaceevo.space import BlockConfig, Graph, Op, SearchSpace, Stage, load_hyperspace, stage_graph, stage_input_hw

HS = load_hyperspace("small")
ENDS = Ends({r: 0.01 for r in HS.lut_resolutions})
LIMITS = [0.06, 0.1, 0.2]


def op_ms(op: Op) -> float:
    return 1e-3 + op.macs / 1e8 + op.cin * op.in_hw**2 / 1e7


def graph_ms(graph: Graph) -> float:
    return sum(map(op_ms, graph.ops))


def true_nsr(stage: int, block: int, cin: int, resolution: int, blocks: Stage) -> float:
    """Made up, but smooth: falls with width, depth, kernel and resolution, in every block type a little otherwise."""
    width = float(np.mean([np.log(b.width) for b in blocks]))
    kernel = float(np.mean([b.kernel for b in blocks]))
    slope = 0.2 + 0.02 * (block * (stage + 2) % 5)
    logs = -slope * width - 0.15 * len(blocks) - 0.03 * kernel - 0.4 * np.log(resolution) - 0.1 * np.log(min(cin, 24))
    return float(np.exp(1.5 + logs + 0.1 * (block * 7 % 5)))


def sparse(seed: int, count: int = 6) -> Table:
    """``count`` sub-stages a key, with what no smooth model tells: 3 % either way."""
    rng = np.random.default_rng(seed)
    rows: list[tuple] = []
    for s, spec in enumerate(HS.stages):
        for t in spec.types:
            elastic, inputs = HS.elastic(s, t), HS.input_widths(s)
            for w in range(spec.windows):
                for r in HS.lut_resolutions:
                    chosen = choose(
                        points(max(spec.depths), count, int(rng.integers(2**31))), elastic, len(inputs), w, spec.window
                    )
                    for cin, blocks in sub_stages(chosen, elastic, inputs):
                        hw = stage_input_hw(HS, r)[s]
                        nsr = true_nsr(s, t, cin, r, blocks) * rng.lognormal(0, 0.03)
                        rows.append(((s, t, w, r), cin, hw, blocks, nsr, graph_ms(stage_graph(elastic, blocks, cin, hw))))
    key, cin, hw, stages, nsr, ms = zip(*rows, strict=True)
    blocks = np.zeros((len(rows), max(map(len, stages)), 3), np.float32)
    for values, stage in zip(blocks, stages, strict=True):
        values[: len(stage)] = [(b.kernel, b.width, np.nan if b.expand is None else b.expand) for b in stage]
    zero = np.zeros(len(rows))
    columns = dict(key=np.array(key, np.int16), cin=np.array(cin), hw=np.array(hw), blocks=blocks, mmacs=zero, mparams=zero)
    return assemble(HS, {**columns, "nsr": np.array(nsr), "ms": np.array(ms)}, ENDS)


@cache
def dense_rows() -> DenseRows:
    return DenseRows(sparse(0), of_ops(op_ms), ENDS)


def rows_of(table: Table) -> Rows:
    assert table.rows is not None
    return table.rows


def test_every_dense_row_is_of_its_key_and_has_its_graph_s_latency() -> None:
    table = dense_rows().table(rows_of(sparse(0)))
    rows, rng = rows_of(table), np.random.default_rng(0)
    assert {len(nsr) for nsr in table.nsr.values()} == {SUB_STAGES} and set(table.nsr) == set(sparse(0).nsr)
    for i in rng.integers(len(rows), size=300):
        stage, block, window, resolution = map(int, rows.key[i])
        elastic = HS.elastic(stage, block, window)
        here = rows.blocks[i, : rows.depth[i]].tolist()
        blocks = tuple(BlockConfig(int(k), int(w), None if np.isnan(e) else e) for k, w, e in here)
        assert {b.width for b in blocks} <= set(elastic.widths) and len(blocks) in elastic.depths
        assert rows.hw[i] == stage_input_hw(HS, resolution)[stage]
        graph = stage_graph(elastic, blocks, int(rows.cin[i]), int(rows.hw[i]))
        assert rows.ms[i] == pytest.approx(graph_ms(graph), rel=1e-9)


def test_dense_sub_stages_are_as_frequent_as_a_random_subnet_s() -> None:
    rows = rows_of(dense_rows().table(rows_of(sparse(0))))
    for stage, spec in enumerate(HS.stages):
        here = rows.key[:, 0] == stage
        for depth in spec.depths:
            assert (rows.depth[here] == depth).mean() == pytest.approx(1 / len(spec.depths), abs=0.02)
        for width in HS.input_widths(stage):
            assert (rows.cin[here] == width).mean() == pytest.approx(1 / len(HS.input_widths(stage)), abs=0.02)


def test_other_sub_stages_hardly_reorder_spaces_through_the_model() -> None:
    """Two tables of six rows a key: through the model they order spaces alike, and as the true NSR does; row by row not."""
    rng = np.random.default_rng(0)
    spaces = [SearchSpace.sample(HS, rng) for _ in range(200)]
    tables = [sparse(1), sparse(2)]
    modelled = [dense_rows().table(rows_of(table)) for table in tables]

    def order(table: Table) -> list[float]:
        score = QTScore(table, LIMITS, mode="exact")
        return [score(space) for space in spaces]

    dense = rows_of(modelled[0])
    columns = {name: getattr(dense, name) for name in ("key", "cin", "hw", "blocks", "mmacs", "mparams", "ms")}
    blocks = [
        tuple(BlockConfig(int(k), int(w), e) for k, w, e in stage[:depth].tolist())
        for stage, depth in zip(dense.blocks, dense.depth, strict=True)
    ]
    nsr = [
        true_nsr(int(s), int(t), int(cin), int(r), b) for (s, t, _, r), cin, b in zip(dense.key, dense.cin, blocks, strict=True)
    ]
    true = order(assemble(HS, {**columns, "nsr": np.array(nsr)}, ENDS))
    one, other = map(order, modelled)
    assert kendalltau(one, other).statistic > 0.95
    assert min(kendalltau(found, true).statistic for found in (one, other)) > 0.93
    assert kendalltau(*map(order, tables)).statistic < 0.9


def test_halves_are_all_rows_once() -> None:
    table = sparse(0)
    split = halves(table)
    assert split is not None
    for key, ms in table.ms.items():
        parts = [half.ms[key] for half in split]
        assert [len(part) for part in parts] == [3, 3] and sorted(np.concatenate(parts)) == sorted(ms)
        for half in split:
            first = half.first_row[key]
            np.testing.assert_array_equal(rows_of(half).nsr[first : first + 3], half.nsr[key])
    assert halves(split[0]) is not None
    assert halves(sparse(0, count=1)) is None


def test_agreement_is_of_orders() -> None:
    rng = np.random.default_rng(0)
    spaces = [SearchSpace.sample(HS, rng) for _ in range(20)]
    worth = {space: i for i, space in enumerate(spaces)}
    assert agreement(worth.__getitem__, lambda space: worth[space] ** 3, spaces) == pytest.approx(1)
    assert agreement(worth.__getitem__, lambda space: -worth[space], spaces) == pytest.approx(-1)
