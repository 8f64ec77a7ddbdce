"""A subnet's predicted latency in words: by stage and by kind of kernel, how sure it is, and beside the paper's Table 1."""

from __future__ import annotations

from collections.abc import Sequence

from spaceevo.latency.parts import Part, by_kernel, by_stage, extrapolated, shortened, whole
from spaceevo.latency.predictor import Predictor
from spaceevo.latency.table1 import Printed, in_order
from spaceevo.report.table import text_table
from spaceevo.space import Subnet


def parts_text(predictor: Predictor, net: Subnet, device: str) -> str:
    """Two tables, what nine of ten such subnets measure between, what of it is estimated, and where it extrapolates."""
    stages, kernels, total = by_stage(predictor, net), by_kernel(predictor, net), whole(predictor, net)
    rows = [(part.name, f"{part.ms:.4g}", share(part, total), between(part)) for part in (*stages, total)]
    kinds = [(part.name, f"{part.ms:.4g}", share(part, total)) for part in kernels]
    lines = [
        text_table(("stage", f"ms on {device}", "%", "nine of ten"), rows),
        "",
        text_table(("kernel", f"ms on {device}", "%"), kinds),
        "",
        *sureness(stages, total),
    ]
    places = extrapolated(predictor, net)
    if places is None:
        lines.append("the predictor does not tell what it was fitted to: whether this extrapolates is not known")
    elif places:
        lines.append(f"this prediction extrapolates: {shortened(places)}")
    return "\n".join(lines)


def sureness(stages: list[Part], total: Part) -> list[str]:
    """What the interval of a prediction is, and what of it is an estimate: a sentence each."""
    told = [f"{part.name} {part.ms:.3g}" for part in stages if part.estimated]
    lines = []
    if total.low_ms is not None and total.high_ms is not None:
        lines.append(f"nine of ten such subnets measure between {total.low_ms:.4g} and {total.high_ms:.4g} ms")
    else:
        lines.append("how far such predictions are off is not known")
    if told:
        known = total.low_ms is not None
        away = "; how far they are off is told by Table 1's models" if known and stages[-1].low_ms is not None else ""
        lines.append(f"estimated from ops, not from known blocks: {', '.join(told)} ms{away}")
    return lines


def table1_text(models: Sequence[Printed], device: str) -> str:
    """Models of Table 1 with what is predicted of them on ``device``, and whether that keeps their order."""
    rows = [
        (
            row.name,
            f"{row.ms:g}",
            f"{row.predicted.ms:.4g}",
            between(row.predicted),
            {True: "yes", False: "no", None: "-"}[row.predicted.holds(row.ms)],
            "another model" if row.other else "",
        )
        for row in models
    ]
    order = "predicted in the order that Table 1 has them" if in_order(models) else "not predicted in Table 1's order"
    table = text_table(("Table 1", "ms printed", f"ms on {device}", "nine of ten", "within", "encoding"), rows)
    return f"{table}\n{order}"


def share(part: Part, total: Part) -> str:
    """Of the whole, in percent."""
    return f"{100 * part.ms / total.ms:.1f}"


def between(part: Part) -> str:
    """The interval of a part in ms."""
    return "-" if part.low_ms is None or part.high_ms is None else f"{part.low_ms:.3g} to {part.high_ms:.3g}"
