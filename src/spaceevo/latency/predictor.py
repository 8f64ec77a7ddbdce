"""A latency predictor that adds up ops: a cost for what each has to move and to multiply.

A model's predicted ms is a fixed cost of the call, a cost an element of
its input and output (layout and type conversion at the borders), and the sum over its ops, each kind of op with its own
coefficients on the features below. All coefficients are at least 0, so a larger op never costs less.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from spaceevo.atomic import write_json
from spaceevo.errors import UserError
from spaceevo.evolution import AdditiveCost, GeneCode
from spaceevo.evolution.additive import placed, placed_in
from spaceevo.latency.blocks import BlockTable
from spaceevo.latency.domain import AMOUNTS, Domain, kernel_of
from spaceevo.space import (
    BlockConfig,
    ElasticStage,
    Graph,
    Hyperspace,
    Op,
    SearchSpace,
    Stage,
    Subnet,
    stage_graph,
    subnet_graph,
)

MANY = 50  # subnets of a space that are worth tables of its blocks
LANES = 16  # channels a vector register holds
INTERVALS = ("interval", "blocks_interval", "ends_interval")
Features = dict[str, float]


def op_features(op: Op) -> Features:
    """Named amounts of one op; the coefficients (ms each) are learned."""
    pixels_in, pixels_out = op.in_hw**2, op.out_hw**2
    elements_in, elements_out = op.cin * pixels_in, op.cout * pixels_out
    kind = kernel_of(op)
    found = {"call": 1.0, "out": elements_out, "in": elements_in}
    if op.has_weight:
        padded = -(-op.cout // LANES) * LANES
        fan_in = op.weight_shape[1] * op.kernel**2
        found |= {"macs": op.macs, "padded": pixels_out * padded * fan_in, "weights": op.cout * fan_in}
        found |= {"patches": pixels_out * op.cin * op.kernel**2, "pixels": pixels_out}
        if op.stride > 1:
            found |= {"strided": 1.0, "strided_in": elements_in}
    return {f"{kind}.{name}": float(amount) for name, amount in found.items()}


def border_features(graph: Graph) -> Features:
    """The call itself and the conversion of input and output."""
    x, y = graph.input, graph.output
    spatial = float(y.channels * y.hw**2) if y.hw > 1 else 0.0
    return {"run": 1.0, "run.input": float(x.channels * x.hw**2), "run.output": spatial}


@dataclass
class Predictor:
    """Coefficients (ms an amount) per precision: ``int8``, and ``fp32`` where that was measured. ``blocks``: the INT8 latency
    of blocks that are known as a whole; others add up their ops. ``interval``: what nine of ten subnets measure at least and at
    most, over what is predicted of them; ``blocks_interval`` and ``ends_interval``: the same of the known blocks, and of stem,
    stage 0 and head beside them; None where that is not known. ``domain``: what the coefficients were fitted to."""

    coefficients: dict[str, dict[str, float]]
    blocks: BlockTable | None = None
    interval: tuple[float, float] | None = None
    blocks_interval: tuple[float, float] | None = None
    ends_interval: tuple[float, float] | None = None
    domain: Domain | None = None
    _cache: dict[tuple[str, Op], float] = field(default_factory=dict, repr=False)

    def op_ms(self, op: Op, precision: str = "int8") -> float:
        """Predicted ms of one op; what is not known of it counts 0."""
        key = (precision, op)
        if key not in self._cache:
            known = self.coefficients[precision]
            self._cache[key] = sum(known.get(name, 0.0) * amount for name, amount in op_features(op).items())
        return self._cache[key]

    def ops_ms(self, graph: Graph, precision: str = "int8") -> list[float]:
        """Milliseconds of each op of ``graph``: the additive part, of which sub-stages are made."""
        return [self.op_ms(op, precision) for op in graph.ops]

    def graph_ms(self, graph: Graph, precision: str = "int8") -> float:
        """Milliseconds of the whole model."""
        known = self.coefficients[precision]
        border = sum(known.get(name, 0.0) * amount for name, amount in border_features(graph).items())
        return border + sum(self.ops_ms(graph, precision))

    def block_ms(self, stage: ElasticStage, block: BlockConfig, cin: int, hw: int) -> float:
        """Milliseconds of a block in INT8, as one of ``stage`` of its stride, on an input ``[B, cin, hw, hw]``."""
        known = None if self.blocks is None else self.blocks.block_ms(stage, block, cin, hw)
        return sum(self.ops_ms(stage_graph(stage, (block,), cin, hw))) if known is None else known

    def blocks_ms(self, stage: ElasticStage, blocks: Stage, cin: int, hw: int) -> float:
        """The same of a sub-stage."""
        return sum(self.block_ms(*one) for one in placed(stage, blocks, cin, hw))

    def stage_ms(
        self, hs: Hyperspace, stage: int, block: int, cin: int, hw: int, blocks: Sequence[tuple[int, int, float | None]]
    ) -> float:
        """INT8 milliseconds of a sub-stage of ``hs``: of ``stage`` (from 1, as in the tables) and type ``block`` (its index),
        on an input ``[B, cin, hw, hw]``; ``blocks``: kernel, width and expand ratio each."""
        return self.blocks_ms(hs.elastic(stage - 1, block), tuple(BlockConfig(*b) for b in blocks), cin, hw)

    def subnet_ms(self, net: Subnet) -> float:
        """INT8 milliseconds of a whole subnet."""
        graph = subnet_graph(net)
        if self.blocks is None:
            return self.graph_ms(graph)
        stages = {stage.name for stage in net.space.all_stages}
        within = sum(self.op_ms(op) for op in graph.ops if op.name.split(".")[0] in stages)
        return self.graph_ms(graph) - within + sum(self.block_ms(*one) for one in placed_in(net))

    def net_ops_ms(self, net: Subnet) -> list[float]:
        """INT8 milliseconds of each op of ``subnet_graph(net)``: those of a block that is known as a whole add up to it."""
        graph = subnet_graph(net)
        each = self.ops_ms(graph)
        if self.blocks is None:
            return each
        blocks = [".".join(op.name.split(".")[:2]) for op in graph.ops]
        known: dict[str, float] = {}
        for stage, block, cin, hw in placed_in(net):
            place = sum(name.startswith(f"{stage.name}.") for name in known)
            known[f"{stage.name}.{place}"] = self.block_ms(stage, block, cin, hw)
        sums = {name: sum(ms for ms, block in zip(each, blocks, strict=True) if block == name) for name in known}
        scale = {name: known[name] / sums[name] for name in known}
        return [ms * scale.get(name, 1.0) for ms, name in zip(each, blocks, strict=True)]

    def costs(self, code: GeneCode) -> AdditiveCost:
        """INT8 milliseconds of subnets of a space by their genes, many at a time."""
        return AdditiveCost(code, self.subnet_ms, self.block_ms)

    def subnets_ms(self, nets: Sequence[Subnet]) -> np.ndarray:
        """INT8 milliseconds of each of many subnets: where many are of a space, they are looked up in tables of its blocks."""
        found = np.empty(len(nets))
        by_space: dict[SearchSpace, list[int]] = {}
        for i, net in enumerate(nets):
            by_space.setdefault(net.space, []).append(i)
        for space, places in by_space.items():
            if len(places) < MANY:
                found[places] = [self.subnet_ms(nets[i]) for i in places]
                continue
            code = GeneCode(space)
            found[places] = self.costs(code)(code.encode([nets[i] for i in places]))
        return found

    def moved(self, factor: float, call_ms: float) -> Predictor:
        """The predictor of a device on which everything takes ``factor`` times as long, and a call ``call_ms`` beside it; of
        INT8 alone."""
        scaled = {name: factor * ms for name, ms in self.coefficients["int8"].items()}
        scaled["run"] = scaled.get("run", 0.0) + call_ms
        blocks = None if self.blocks is None else replace(self.blocks, ms=factor * self.blocks.ms)
        return Predictor({"int8": scaled}, blocks, domain=self.domain)

    def unknown(self, graph: Graph) -> list[str]:
        """Kinds of ops in ``graph`` that nothing was learned of: they count 0 ms."""
        known = {name.split(".")[0] for name in self.coefficients["int8"]}
        return sorted({kernel_of(op) for op in graph.ops} - known)

    def save(self, path: Path, **more: Any) -> None:
        """``more``: what else the file tells of itself."""
        known: dict[str, Any] = {} if self.blocks is None else {"blocks": self.blocks.as_data()}
        known |= {name: list(ratios) for name in INTERVALS if (ratios := getattr(self, name)) is not None}
        if self.domain is not None:
            known["domain"] = self.domain
        write_json(path, {"unit": "ms", **more, "coefficients": self.coefficients, **known})

    @staticmethod
    def load(path: Path) -> Predictor:
        """Raises:
        UserError: the file is not a predictor's.
        """
        try:
            held = json.loads(path.read_text())
            coefficients = held["coefficients"]
            found = {p: {name: float(ms) for name, ms in coefficients[p].items()} for p in coefficients}
            blocks = BlockTable.of_data(held["blocks"]) if "blocks" in held else None
            whole, known, ends = (_ratios(held.get(name)) for name in INTERVALS)
            domain = _domain(held["domain"]) if "domain" in held else None
            return Predictor({"int8": found.pop("int8"), **found}, blocks, whole, known, ends, domain)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BadZipFile) as error:
            raise UserError(f"{path}: not a latency predictor ({type(error).__name__}); make it anew") from None


def _ratios(held: Any) -> tuple[float, float] | None:
    if held is None:
        return None
    low, high = map(float, held)
    return low, high


def _domain(held: Any) -> Domain:
    return {kind: {name: (int(ranges[name][0]), int(ranges[name][1])) for name in AMOUNTS} for kind, ranges in held.items()}
