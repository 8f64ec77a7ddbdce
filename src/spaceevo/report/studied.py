"""What the rows of a study of quantization say: speed-ups, where INT8 pays, and who wins within what latency."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.deploy.studied import IMAGENET_DATA, MODELS, OPS, WIDTHS
from spaceevo.evolution import pareto_front
from spaceevo.report.figures import significant
from spaceevo.report.table import text_table
from spaceevo.space import published_model, published_models
from spaceevo.space.published import table_1

if TYPE_CHECKING:
    import pandas as pd

OURS = "SEQnet"  # what the names of the paper's own models begin with
SPREAD = (0.1, 0.9)  # quantiles of the rounds between which a speed-up is said to lie
PAYS, ALIKE, SLOWER, UNTOLD = "INT8 pays", "no difference", "INT8 is slower", "not told"


@dataclass(frozen=True)
class Pair:
    """One subject in both precisions: ms, of a chained op those of one; NaN where the FP32 file was not there, or the op is
    lost in the noise. ``low``, ``high``: the speed-ups of most rounds, NaN where one of them is
    lost. ``calls``: between which ms most calls of a whole model lie, in words, by precision. ``facts``: the other columns."""

    figure: str
    name: str
    int8_ms: float
    fp32_ms: float
    low: float
    high: float
    calls: dict[str, str]
    facts: dict[str, Any]

    @property
    def speedup(self) -> float:
        """How many times the speed of FP32 INT8 has."""
        return self.fp32_ms / self.int8_ms

    @property
    def verdict(self) -> str:
        """Whether INT8 pays: it does, or is slower, where most rounds say so."""
        if math.isnan(self.low):
            return UNTOLD
        return SLOWER if self.high < 1 else PAYS if self.low > 1 else ALIKE

    @property
    def paper(self) -> dict[str, dict[str, float]]:
        """Its rows of Table 1, by device."""
        return table_1(self.name) if self.figure == MODELS else {}

    @property
    def other(self) -> bool:
        """Whether Table 1 has another network by that name: the release's encoding is not the table's."""
        released = self.figure == MODELS and self.name in published_models()
        return released and published_model(self.name).is_another(self.facts["mmacs"])

    @property
    def top1(self) -> float:
        """Of Table 1, percent in INT8; NaN where it has none."""
        return float(self.facts["top1"]) if self.facts["images"] == IMAGENET_DATA and self.paper else math.nan


def pairs(frame: pd.DataFrame) -> list[Pair]:
    """The subjects of a study's rows (:func:`spaceevo.deploy.studied.measured`), in their order."""
    return [_pair(rows) for _, rows in frame.groupby(["figure", "name"], sort=False)]


def _pair(rows: pd.DataFrame) -> Pair:
    (int8, int8_rounds), (fp32, fp32_rounds) = (_one(rows[rows.precision == precision]) for precision in ("int8", "fp32"))
    low = high = math.nan
    if len(fp32_rounds) and np.all(np.array([int8, fp32, *int8_rounds, *fp32_rounds]) > 0):
        low, high = (float(q) for q in np.quantile([*(fp32_rounds / int8_rounds), fp32 / int8], SPREAD))
    first = rows.iloc[0]
    facts = {str(key): None if _missing(value) else value for key, value in first.items()}
    calls = {"int8": "", "fp32": ""}
    for precision, low_ms, high_ms in zip(rows.precision, rows.p10, rows.p90, strict=True):
        calls[precision] = f"{significant(low_ms)}\N{EN DASH}{significant(high_ms)}"
    return Pair(first.figure, first["name"], int8, fp32, low, high, calls, facts)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _one(rows: pd.DataFrame) -> tuple[float, np.ndarray]:
    """Ms of a model, or of one op of a chain by the difference of two lengths, and the same of every round; NaN of no rows, or
    where the longer chain is not slower."""
    lengths = sorted(zip(rows.length, rows.ms, map(np.asarray, rows.round_ms), strict=True), key=lambda row: row[0])
    if not lengths:
        return math.nan, np.array([])
    (short, short_ms, short_rounds), (long, long_ms, long_rounds) = lengths[0], lengths[-1]
    if short == long:
        return float(short_ms), short_rounds
    more = long - short
    ms = float(long_ms - short_ms) / more
    return (ms if ms > 0 else math.nan), (long_rounds - short_rounds) / more


def words_of_ops(found: Sequence[Pair]) -> list[str]:
    """For which ops INT8 pays and for which it does not, a line a verdict; then from which width on 1x1 convolutions do."""
    ops, widths = ([pair for pair in found if pair.figure == figure] for figure in (OPS, WIDTHS))
    lines = []
    for verdict, words in (
        (SLOWER, "INT8 does not pay for"),
        (ALIKE, "INT8 makes no difference that can be told for"),
        (UNTOLD, "the noise tells nothing of"),
        (PAYS, "INT8 pays for"),
    ):
        told = [f"{pair.name}{_times(pair)}" for pair in ops if pair.verdict == verdict]
        lines += [f"{words} {', '.join(told)}"] if told else []
    return [*lines, *_words_of_widths(widths)]


def _words_of_widths(widths: Sequence[Pair]) -> Iterator[str]:
    told = sorted((pair for pair in widths if pair.verdict != UNTOLD), key=lambda pair: pair.facts["channels"])
    if told:
        least, most = told[0], told[-1]
        poor = [f"{pair.facts['channels']:g}" for pair in told if pair.verdict != PAYS]
        but = f"; not told to pay at {', '.join(poor)}" if poor else ""
        yield (
            f"1x1 convolutions: {least.speedup:.2f} times the speed of FP32 at {least.facts['channels']:g} channels, "
            f"{most.speedup:.2f} times at {most.facts['channels']:g}{but}"
        )


def _times(pair: Pair) -> str:
    if pair.verdict == UNTOLD:
        return ""
    return f" ({pair.speedup:.2f} times the speed of FP32, {pair.low:.2f} to {pair.high:.2f})"


def words_of_models(found: Sequence[Pair]) -> list[str]:
    """Who wins within what latency, by the INT8 accuracies of Table 1 and the latencies measured; which networks a model of the
    paper beats; the speed-ups of both; and the paper's ResNet18, faster in INT8 than EfficientNet-B0."""
    models = [pair for pair in found if pair.figure == MODELS]
    ranked = ranking(models)
    ours = [pair for pair in ranked if pair.name.startswith(OURS)]
    others = [pair for pair in ranked if not pair.name.startswith(OURS)]
    return [*_winners(ranked), *_beaten(ours, others), *_gains(models), *_observed(models)]


def ranking(models: Sequence[Pair]) -> list[Pair]:
    """Those with an accuracy in Table 1."""
    return [pair for pair in models if pair.top1 > 0]


def front(ranked: Sequence[Pair]) -> list[Pair]:
    """Those that no other is more accurate than and as fast as, by rising ms."""
    return [ranked[i] for i in pareto_front([pair.int8_ms for pair in ranked], [pair.top1 for pair in ranked])]


def _winners(ranked: Sequence[Pair]) -> Iterator[str]:
    if ranked:
        told = ", ".join(f"from {significant(pair.int8_ms)} ms {pair.name} ({pair.top1:.1f} %)" for pair in front(ranked))
        yield f"the most accurate in INT8 within a latency, of {len(ranked)} with an accuracy in Table 1: {told}"


def _beaten(ours: Sequence[Pair], others: Sequence[Pair]) -> Iterator[str]:
    """At the latency of each of ``others``, the best of ``ours``."""
    for other in others if ours else ():
        within = [pair for pair in ours if pair.int8_ms <= other.int8_ms]
        at = f"within the {significant(other.int8_ms)} ms of {other.name} ({other.top1:.1f} %)"
        if not within:
            yield f"{at} there is no {OURS}"
            continue
        best = max(within, key=lambda pair: pair.top1)
        points = best.top1 - other.top1
        wins = OURS if points > 0 else other.name
        more = f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")
        yield f"{at} {wins} wins: {best.name} has {best.top1:.1f} % at {significant(best.int8_ms)} ms, {more} points"


def _gains(models: Sequence[Pair]) -> Iterator[str]:
    for who, group in (
        (f"{OURS} models", [pair for pair in models if pair.name.startswith(OURS)]),
        ("the other networks", [pair for pair in models if not pair.name.startswith(OURS)]),
    ):
        gains = [pair.speedup for pair in group if pair.speedup > 0]
        if gains:
            yield f"INT8 speed-up of {who}: {min(gains):.2f} to {max(gains):.2f} times"


def _observed(models: Sequence[Pair]) -> Iterator[str]:
    by_name = {pair.name: pair.int8_ms for pair in models}
    large, compact = by_name.get("resnet18"), by_name.get("efficientnet_b0")
    if large is not None and compact is not None:
        holds = "faster, as in the paper's figure 1(b)" if large < compact else "slower, other than in the paper's figure 1(b)"
        yield f"in INT8 resnet18 is {holds}: {significant(large)} ms, efficientnet_b0 {significant(compact)} ms"


def study_table(found: Sequence[Pair]) -> str:
    """All of it for a terminal."""
    rows = []
    for pair in found:
        spread = "-" if math.isnan(pair.low) else f"{pair.low:.2f}-{pair.high:.2f}"
        top1 = "-" if pair.facts["top1"] is None else f"{pair.facts['top1']:.1f}"
        figures = [significant(value).replace("\N{EN DASH}", "-") for value in (pair.int8_ms, pair.fp32_ms, pair.speedup)]
        rows.append((pair.figure, pair.name, *figures, spread, top1, pair.verdict))
    return text_table(("figure", "what", "INT8 ms", "FP32 ms", "speed-up", "of most rounds", "top-1 %", ""), rows)
