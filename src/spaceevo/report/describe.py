"""What a hyperspace, a search space or a model is: text for a terminal and a picture.

The pictures are a few rectangles written as SVG here, since a plotting library takes longer to load than the answer may.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from spaceevo.latency.parts import stage_of
from spaceevo.latency.predictor import Predictor
from spaceevo.latency.table1 import compared
from spaceevo.report.latency_text import parts_text, table1_text
from spaceevo.report.table import text_table
from spaceevo.space import (
    ElasticStage,
    Hyperspace,
    Op,
    PublishedModel,
    SearchSpace,
    StageSpec,
    Subnet,
    graph_cost,
    published_spaces,
    subnet_graph,
)

INK, SOFT, RANGE, WINDOW, PAPER = "#1f2933", "#5f6c7b", "#d9e2ec", "#2f6fb0", "#ffffff"


def hyperspace_text(hs: Hyperspace) -> str:
    """How many spaces, of what, and what an encoding means."""
    factors = [len(stage.types) * stage.windows for stage in hs.stages]
    rows = [
        (f"stage{i}", _list(s.types), _list(s.widths), s.window, s.windows, _list(s.depths), s.stride, factor)
        for i, (s, factor) in enumerate(zip(hs.stages, factors, strict=True), start=1)
    ]
    kinds = [(i, b.type, b.act, _list(b.kernels), _list(b.expands)) for i, b in enumerate(hs.blocks)]
    return "\n".join(
        [
            f"hyperspace {hs.name}: {hs.spaces:,} search spaces (the product of the last column), made for device={hs.device}",
            "",
            text_table(("", "types", "widths", "window", "windows", "depths", "stride", "choices"), rows),
            "",
            text_table(("type", "block", "act", "kernels", "expands"), kinds),
            "",
            _around(hs),
            "",
            *_encoding_help(hs),
        ]
    )


def space_text(space: SearchSpace, predictor: Predictor | None, device: str) -> str:
    """Stages, block types, width windows, number of subnets, and what the least and the most of every choice cost."""
    hs = space.hyperspace
    names = [name for name, encoding in published_spaces().items() if encoding == str(space)]
    rows = [
        (s.name, s.block.type, s.block.act, *map(_list, (s.widths, s.depths, s.block.kernels, s.block.expands)), s.stride, n)
        for s, n in ((stage, f"{stage.subnets:.3g}") for stage in space.all_stages)
    ]
    costs = []
    for label, net in (("least", Subnet.smallest(space)), ("most", Subnet.largest(space))):
        graph = subnet_graph(net)
        cost = graph_cost(graph)
        ms = "-" if predictor is None else f"{predictor.subnet_ms(net):.4g}"
        costs.append((label, net.resolution, f"{cost.mmacs:,.1f}", f"{cost.params / 1e6:,.2f}", ms))
    headers = ("stage", "block", "act", "widths", "depths", "kernels", "expands", "stride", "sub-stages")
    return "\n".join(
        [
            f"search space {space}{f' ({names[0]})' if names else ''}: {space.subnets:.3g} subnets",
            "",
            text_table(headers, rows),
            "",
            _around(hs),
            "",
            text_table(("of every choice", "resolution", "MMACs", "M params", f"ms on {device}"), costs),
        ]
    )


def model_text(net: Subnet, model: PublishedModel | None, predictor: Predictor | None, device: str) -> str:
    """Layer by layer: shapes, MMACs, parameters, bytes and ms; totals; ms in parts, and how sure; the paper's figures."""
    graph = subnet_graph(net)
    each = [None] * len(graph.ops) if predictor is None else predictor.net_ops_ms(net)
    rows = [_op_row(op, ms) for op, ms in zip(graph.ops, each, strict=True)]
    cost = graph_cost(graph)
    total = f"total: {cost.mmacs:,.2f} MMACs, {cost.params:,} parameters, {sum(map(op_bytes, graph.ops)):,} bytes in INT8"
    if predictor is not None:
        total += f", {predictor.subnet_ms(net):.4g} ms on {device}"
    lines = [
        f"model {model.name if model else net}",
        f"space {net.space}" + (f"\nsubnet {net}" if model else ""),
        "",
        text_table(("layer", "op", "in", "out", "kernel", "act", "MMACs", "params", "bytes", f"ms on {device}"), rows),
        "",
        total,
    ]
    if predictor is not None:
        lines += ["", parts_text(predictor, net, device)]
    if model is not None:
        p = model.paper
        lines += [
            "",
            f"Table 1 says of {model.name}: {p['mmacs']:g} MMACs, {p['int8_ms']:g} ms in INT8 ({p['speedup']:g}x faster than "
            f"FP32), top-1 {p['int8_top1']:g} % in INT8 and {p['fp32_top1']:g} % in FP32",
        ]
        if model.is_another(cost.mmacs):
            lines.append("the released encoding is another model than the table's: their MMACs differ")
        if predictor is not None and device == net.space.hyperspace.device:
            lines += ["", table1_text(compared(predictor, net.space.hyperspace.name), device)]
    return "\n".join(lines)


def op_bytes(op: Op) -> int:
    """What the op's constants take in an INT8 file: weights of one byte, a bias and a scale of four a channel."""
    if not op.has_weight:
        return 0
    cout, cin, kernel, _ = op.weight_shape
    return cout * cin * kernel**2 + 8 * cout


def _op_row(op: Op, ms: float | None) -> tuple[str, ...]:
    kernel = f"{op.kernel}x{op.kernel}" + (f"/{op.stride}" if op.stride > 1 else "") if op.has_weight else ""
    shapes = (f"{op.cin}x{op.in_hw}x{op.in_hw}", f"{op.cout}x{op.out_hw}x{op.out_hw}")
    numbers = (f"{op.macs / 1e6:.3f}", f"{op.params:,}", f"{op_bytes(op):,}") if op.has_weight else ("", "", "")
    return (op.name, op.kind, *shapes, kernel, op.act or "", *numbers, "-" if ms is None else f"{ms:.4f}")


def _around(hs: Hyperspace) -> str:
    stem, head = hs.stem, hs.head
    kind = "deep stem" if stem.deep else "stem"
    expand = f"1x1 to {_list(head.final_expand)}, " if head.final_expand else ""
    mix = f"1x1 to {head.feature_mix}, " if head.feature_mix else ""
    stage0 = ""
    if hs.stage0 is not None:
        stage0 = f"; stage0: {hs.stage0.block.type} of widths {_list(hs.stage0.widths)}"
    return (
        f"{kind}: {stem.kernel}x{stem.kernel} of stride {stem.stride} to {_list(stem.widths)} ({stem.act}){stage0}; "
        f"head: {expand}mean, {mix}{hs.classes} classes ({head.act}); "
        f"resolutions {_list(hs.resolutions)}, of the LUT {_list(hs.lut_resolutions)}"
    )


def _encoding_help(hs: Hyperspace) -> list[str]:
    last = SearchSpace(hs, tuple(s.types[-1] for s in hs.stages), tuple(s.windows - 1 for s in hs.stages))
    parts = [
        f"  {stage.name}: {kind} is {stage.block.type}, {window} is the widths {_list(stage.widths)}"
        for stage, kind, window in zip(last.stages, last.types, last.windows, strict=True)
    ]
    named = [f"{name} is {encoding}" for name, encoding in published_spaces().items() if encoding.startswith(f"{hs.name}-")]
    return [
        "A space is written <hyperspace>-<block type a stage>-<width window a stage>; a window is the consecutive widths",
        f"that begin at its number. {last} means:",
        *parts,
        "A subnet is written d<depths>_k<kernels>_w<widths>_e<expands>"
        + ("_h<head width>" if len(hs.head.final_expand) > 1 else "")
        + "_r<resolution>, fields joined by #, over stem and stages.",
        *([f"Published: {', '.join(named)}."] if named else []),
    ]


def _list(values: Sequence[object]) -> str:
    """Short: ``24-72/8`` for a regular range, else the values."""
    if values == (None,):
        return "-"
    numbers = [float(str(v)) for v in values]
    steps = {b - a for a, b in pairwise(numbers)}
    if len(numbers) > 3 and len(steps) == 1:
        return f"{numbers[0]:g}-{numbers[-1]:g}/{steps.pop():g}"
    return ",".join(f"{n:g}" for n in numbers)


# Pictures


def space_svg(space: SearchSpace) -> str:
    """A bar a stage: all widths the hyperspace offers, and the space's window of them, with the block type."""
    spans = [(s.widths, stage.widths, f"{stage.block.type}, {stage.block.act}") for s, stage in _pairs(space)]
    return _width_bars(f"{space}: {space.subnets:.3g} subnets", [s.name for s in space.stages], spans)


def hyperspace_svg(hs: Hyperspace) -> str:
    """A bar a stage: all widths, and the first window of them."""
    spans = [(s.widths, s.window_widths(0), f"{len(s.types)} block types, {s.windows} windows") for s in hs.stages]
    return _width_bars(f"{hs.name}: {hs.spaces:,} search spaces", [f"stage{i + 1}" for i in range(len(hs.stages))], spans)


def model_svg(net: Subnet, title: str, predictor: Predictor | None) -> str:
    """Two bars a stage: its share of the MMACs and of the milliseconds."""
    graph = subnet_graph(net)
    each = [0.0] * len(graph.ops) if predictor is None else predictor.net_ops_ms(net)
    shares: dict[str, list[float]] = {}
    for op, ms in zip(graph.ops, each, strict=True):
        found = shares.setdefault(stage_of(op.name), [0.0, 0.0])
        found[0] += op.macs / 1e6
        found[1] += ms
    most = [max(values[i] for values in shares.values()) or 1.0 for i in (0, 1)]
    body, y = [], 60
    for name, (mmacs, ms) in shares.items():
        body.append(_text(20, y + 17, name))
        body += [
            _rect(110, y, 420 * mmacs / most[0], 10, WINDOW),
            _text(118 + 420 * mmacs / most[0], y + 9, f"{mmacs:.1f} MMACs", 11),
        ]
        if predictor is not None:
            body += [
                _rect(110, y + 13, 420 * ms / most[1], 10, SOFT),
                _text(118 + 420 * ms / most[1], y + 22, f"{ms:.3g} ms", 11),
            ]
        y += 34
    return _svg(title, y, body)


def _pairs(space: SearchSpace) -> list[tuple[StageSpec, ElasticStage]]:
    return list(zip(space.hyperspace.stages, space.stages, strict=True))


def _width_bars(title: str, names: Sequence[str], spans: Sequence[tuple[Sequence[int], Sequence[int], str]]) -> str:
    widest = max(max(widths) for widths, _, _ in spans)
    body, y = [_text(20, 52, "output widths in channels: what the hyperspace offers (light) and the window (dark)", 12)], 70

    def x(width: float) -> float:
        return 110 + 400 * width / widest

    for name, (widths, chosen, label) in zip(names, spans, strict=True):
        body += [_text(20, y + 14, name), _rect(x(widths[0]) - 3, y, x(widths[-1]) - x(widths[0]) + 6, 20, RANGE)]
        body.append(_rect(x(chosen[0]) - 3, y, x(chosen[-1]) - x(chosen[0]) + 6, 20, WINDOW))
        body += [_rect(x(w) - 0.5, y + 4, 1, 12, PAPER if w in chosen else SOFT) for w in widths]
        body.append(
            _text(x(widths[-1]) + 10, y + 14, f"{chosen[0]} to {chosen[-1]} of {widths[0]} to {widths[-1]}: {label}", 12)
        )
        y += 32
    return _svg(title, y, body)


def _svg(title: str, height: float, body: Sequence[str]) -> str:
    size = f'width="860" height="{height + 16:g}" viewBox="0 0 860 {height + 16:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">'
    return "\n".join([head, _rect(0, 0, 860, height + 16, PAPER), _text(20, 34, title, 17), *body, "</svg>", ""])


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'


def _text(x: float, y: float, text: str, size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{INK}">{escape(text)}</text>'
