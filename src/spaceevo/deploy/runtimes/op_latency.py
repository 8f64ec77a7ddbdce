"""Where a model's time goes, op by op: onnxruntime's profiler, its nodes named by the ops of our graph."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spaceevo.latency.runtimes.ort import load, random_feed, session_options
from spaceevo.space.graph import Graph

LEAST_RUNS, MOST_RUNS, SPENT_MS = 10, 100, 1000.0  # profiled runs of a model: as many as take about a second
#: Rows that are no op of ours: what comes before the first and after the last (quantizing, layouts, flattening).
BEFORE, AFTER = "input", "output"
KERNEL_TIME = "_kernel_time"


@dataclass(frozen=True)
class Node:
    """A node of the optimized graph: its kernel (onnxruntime's op type), output shape, and ms a run."""

    name: str
    kernel: str
    shape: tuple[int, ...]
    ms: float


def profile_nodes(model: bytes, runs: int, threads: int = 1) -> tuple[list[Node], onnx.ModelProto]:
    """Every node that onnxruntime runs, with its mean ms over the faster half of ``runs``, and the optimized graph.

    The profiler's own time (2 to 4 µs a node) is within these figures: see :func:`adding_up_to`.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = load(model, options=options)
        feed = random_feed(session)
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
        optimized = onnx.load(options.optimized_model_filepath)
    timed = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL_TIME)]
    us = np.array([event["dur"] for event in timed], float).reshape(runs, -1)  # a run after the other, the nodes in order
    totals = us.sum(1)
    ms = us[totals <= np.median(totals)].mean(0) / 1e3
    nodes = [
        Node(event["name"].removesuffix(KERNEL_TIME), event["args"]["op_name"], _shape(event), float(t))
        for event, t in zip(timed, ms, strict=False)
    ]
    _name_the_nameless(optimized, nodes)
    return nodes, optimized


def _name_the_nameless(optimized: onnx.ModelProto, nodes: Sequence[Node]) -> None:
    """Pieces that onnxruntime makes of an op (HardSigmoid and Mul of a hard-swish) have no name; the profiler says
    ``<kernel>_<index>``, in the graph's order."""
    names: dict[str, list[str]] = {}
    nameless = [node for node in nodes if re.fullmatch(rf"{node.kernel}_\d+", node.name)]
    for node in sorted(nameless, key=lambda node: int(node.name.rsplit("_", 1)[1])):
        names.setdefault(node.kernel, []).append(node.name)
    for piece in optimized.graph.node:
        if not piece.name and names.get(piece.op_type):
            piece.name = names[piece.op_type].pop(0)


def adding_up_to(total_ms: float, ms: np.ndarray) -> np.ndarray:
    """``ms`` of the kernels, each changed by the same (but none below 0) so that they add up to ``total_ms``, the latency
    measured without a profiler: less the time that profiling adds to each, or more by what passes between them."""
    if ms.sum() <= total_ms:
        return ms + (total_ms - ms.sum()) / len(ms)
    low, high = 0.0, float(ms.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(ms - middle, 0).sum() > total_ms else (low, middle)
    return np.maximum(ms - high, 0)


def owners(nodes: Sequence[Node], optimized: onnx.ModelProto, ops: Sequence[str]) -> dict[str, str]:
    """The op of ours that each node belongs to: the one it is named for, else (a layout change, a dequantization, a piece
    of hard-swish) that of the node that reads its output."""
    longest_first = sorted(ops, key=len, reverse=True)
    named = {
        node.name: next((op for op in longest_first if f"{node.name}.".startswith((f"{op}.", f"{op}_"))), None)
        for node in nodes
        if not node.name.endswith(".dq") and not node.kernel.startswith("Reorder")
    }
    readers: dict[str, str] = {}
    for node in reversed(optimized.graph.node):
        readers |= dict.fromkeys(node.input, node.name)
    outputs = {node.name: node.output[0] for node in optimized.graph.node}

    def owner(name: str | None) -> str:
        while name is not None:
            if named.get(name):
                return named[name]  # type: ignore[return-value]
            name = readers.get(outputs.get(name, ""))
        return AFTER

    first = next((i for i, node in enumerate(nodes) if named.get(node.name)), 0)
    return {node.name: BEFORE if i < first else owner(node.name) for i, node in enumerate(nodes)}


def graph_rows(graph: Graph) -> list[dict[str, Any]]:
    """The ops of our graph: ``op``, ``kind``, ``shape`` ``[C, H, W]`` and ``mmacs``."""
    return [dict(op=op.name, kind=op.kind, shape=[op.cout, op.out_hw, op.out_hw], mmacs=op.macs / 1e6) for op in graph.ops]


def node_rows(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """The nodes of any other ONNX model, with the shapes that can be inferred; their ``mmacs`` are not counted."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    dims = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.output)}
    shapes = {name: [dim.dim_value for dim in dim[1:]] for name, dim in dims.items()}
    nodes = [node for node in inferred.node if node.op_type not in ("Constant", "Identity")]
    return [dict(op=node.name, kind=node.op_type, shape=shapes.get(node.output[0], []), mmacs=None) for node in nodes]


def op_table(
    ops: list[dict[str, Any]], models: dict[str, bytes], totals_ms: dict[str, float], threads: int = 1
) -> list[dict[str, Any]]:
    """``ops`` (and ``input``, ``output``: what comes before and after them) with ms and kernels in each of ``models``
    (``int8``, ``fp32``).

    Returns:
        The rows with ``<model>_ms`` and ``<model>_kernels``, which are None and empty where the runtime has fused the op
        into another. A model's ms add up to its ``totals_ms``.
    """
    ends: list[dict[str, Any]] = [dict(op=name, kind=name, shape=[], mmacs=None) for name in (BEFORE, AFTER)]
    rows: dict[str, dict[str, Any]] = {row["op"]: dict(row) for row in (ends[0], *ops, ends[1])}
    for row in rows.values():
        row |= {f"{model}_ms": None for model in models} | {f"{model}_kernels": [] for model in models}
    for model, content in models.items():
        runs = min(MOST_RUNS, max(LEAST_RUNS, int(SPENT_MS / totals_ms[model])))
        nodes, optimized = profile_nodes(content, runs, threads)
        belongs = owners(nodes, optimized, [op["op"] for op in ops])
        for node, ms in zip(nodes, adding_up_to(totals_ms[model], np.array([node.ms for node in nodes])), strict=True):
            row = rows[belongs[node.name]]
            row[f"{model}_ms"] = (row[f"{model}_ms"] or 0.0) + float(ms)
            row[f"{model}_kernels"].append(node.kernel)
    return list(rows.values())


def _shape(event: dict[str, Any]) -> tuple[int, ...]:
    return tuple(next(iter(event["args"]["output_type_shape"][0].values()), ()))
