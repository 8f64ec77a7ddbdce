"""What a predictor was fitted to: the sizes of every kind of kernel that were measured. Beyond them it extrapolates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spaceevo.space import Graph, Op

#: Least and most of each of ``AMOUNTS``, by kind of kernel.
Domain = dict[str, dict[str, tuple[int, int]]]
AMOUNTS = ("channels in", "channels out", "pixels")


def kernel_of(op: Op) -> str:
    """The kind of kernel that an op is: convolutions by their size, 1x1 ones on one pixel (SE's, the classifier) apart."""
    if op.kind == "conv":
        return ("gate" if op.in_hw == 1 else "pointwise") if op.kernel == 1 else f"conv{op.kernel}"
    return f"depthwise{op.kernel}" if op.kind == "depthwise" else op.kind


def domain_of(graphs: Iterable[Graph]) -> Domain:
    """The ranges of the ops of ``graphs``; ``pixels``: of a side of the input."""
    found: Domain = {}
    for graph in graphs:
        for op in graph.ops:
            known = found.setdefault(kernel_of(op), {})
            for name, amount in zip(AMOUNTS, _amounts(op), strict=True):
                low, high = known.get(name, (amount, amount))
                known[name] = min(low, amount), max(high, amount)
    return found


def beyond(domain: Domain, ops: Sequence[Op]) -> list[str]:
    """What of ``ops`` lies outside of ``domain``, a line a kind of kernel and amount: of the op that is the furthest out."""
    furthest: dict[tuple[str, str], tuple[float, str]] = {}
    for op in ops:
        kind = kernel_of(op)
        if kind not in domain:
            furthest.setdefault((kind, ""), (0.0, f"{op.name} is a {kind}, of which none was measured"))
            continue
        for name, amount in zip(AMOUNTS, _amounts(op), strict=True):
            low, high = domain[kind][name]
            out = max(low / amount, amount / high)
            if out > 1 and out > furthest.get((kind, name), (0.0, ""))[0]:
                furthest[kind, name] = out, f"{op.name} is a {kind} of {amount} {name} ({low} to {high} measured)"
    return [told for _, told in furthest.values()]


def _amounts(op: Op) -> tuple[int, int, int]:
    return op.cin, op.cout, op.in_hw
