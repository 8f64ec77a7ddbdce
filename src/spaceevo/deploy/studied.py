"""The study of the paper's section 3: what is measured of it, and its measurement, subject by subject, so that a killed one
goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spaceevo.atomic import write_parquet
from spaceevo.deploy.claims.reading import read_card
from spaceevo.deploy.runtimes.registry import Runtime
from spaceevo.latency.measure import latency, quantiles
from spaceevo.space import Graph, graph_cost, published_models, published_subnet, subnet_graph
from spaceevo.space.chains import LONG, SHORT, chain_graph
from spaceevo.space.imagenet import RESOLUTION, imagenet_graph
from spaceevo.space.published import table_1

if TYPE_CHECKING:
    import pandas as pd

#: The parts of the study, named for the paper's figures.
OPS, WIDTHS, MODELS = "2a", "2b", "1"
FIGURE_2A = ("conv", "depthwise", "se", "hswish", "swish")
CHANNELS = 96  # of the ops of figure 2(a), for which the paper does not say it
GROUP = 5  # subjects measured together
IMAGENET_DATA = "imagenet"  # of the accuracies of Table 1
#: An INT8 or FP32 file (``int8``, ``fp32``) of a number of ops in a chain, 1 for a whole model.
Key = tuple[str, int]
Write = Callable[[Graph], tuple[bytes, bytes]]


@dataclass(frozen=True)
class Subject:
    """What one speed-up is told of. ``facts``: further columns of its rows; ``files``: makes its files."""

    figure: str
    name: str
    facts: Mapping[str, Any]
    files: Callable[[], dict[Key, bytes]]


def single_ops(widths: Sequence[int], write: Write) -> Iterator[Subject]:
    """The ops of figure 2(a), then the 1x1 convolutions of figure 2(b) over ``widths``, input channels."""
    named = [(OPS, op, op, CHANNELS) for op in FIGURE_2A]
    for figure, name, op, channels in [*named, *((WIDTHS, f"conv1x1-{c}", "conv1x1", c) for c in widths)]:
        graphs = {length: chain_graph(op, channels, length) for length in (SHORT, LONG)}
        one = graph_cost(graphs[SHORT])
        facts = dict(channels=channels, resolution=graphs[SHORT].input.hw, mmacs=one.mmacs, params=one.params)
        yield Subject(figure, name, facts, _writer(graphs, write))


def whole_models(names: Iterable[str], resolution: int, write: Write) -> Iterator[Subject]:
    """Published models, at their own resolutions, and networks of :mod:`spaceevo.space.imagenet` at ``resolution``."""
    for name in names:
        published = name in published_models()
        graph = subnet_graph(published_subnet(name)) if published else imagenet_graph(name, resolution)
        paper = next(iter(table_1(name).values()), {}) if published or resolution == RESOLUTION else {}
        known = dict(images=IMAGENET_DATA, top1=paper["int8_top1"], top1_fp32=paper["fp32_top1"]) if paper else {}
        cost = graph_cost(graph)
        facts = dict(resolution=graph.input.hw, mmacs=cost.mmacs, params=cost.params) | known
        yield Subject(MODELS, name, facts, _writer({1: graph}, write))


def exported_models(cards: Iterable[Path], runtime: Runtime) -> Iterator[Subject]:
    """Exported models by the paths of their cards: their own files for ``runtime``.

    Raises:
        UserError: a card that cannot be read, or is of an older version.
    """
    for path in cards:
        card = read_card(path.parent)
        facts = {key: card[key] for key in ("resolution", "mmacs", "params")}
        known = dict(images=card["data"]["name"], top1=card["top1_runtime"], top1_fp32=card["top1_fp32"])
        yield Subject(MODELS, card["name"], facts | known, _reader(path.parent, runtime))


def _writer(graphs: Mapping[int, Graph], write: Write) -> Callable[[], dict[Key, bytes]]:
    def files() -> dict[Key, bytes]:
        written = {length: write(graph) for length, graph in graphs.items()}
        return {(precision, n): pair[i] for n, pair in written.items() for i, precision in enumerate(("int8", "fp32"))}

    return files


def _reader(folder: Path, runtime: Runtime) -> Callable[[], dict[Key, bytes]]:
    """The INT8 file and, for the runtime that the model was made for, the FP32 file."""

    def files() -> dict[Key, bytes]:
        there = {("int8", 1): folder / runtime.int8, ("fp32", 1): folder / runtime.fp32}
        return {key: path.read_bytes() for key, path in there.items() if path.exists()}

    return files


def measured(
    subjects: Sequence[Subject],
    measure: Callable[[Mapping[str, bytes]], Mapping[str, np.ndarray]],
    rounds: int,
    part: Path,
    progress: Callable[[int], object],
) -> pd.DataFrame:
    """A row a file: its subject, precision and length of chain, the latency and quantiles of its calls in ms, and in
    ``round_ms`` the latency of each of ``rounds`` parts of the calls, in the order of time.

    ``measure`` gives ms of single calls of files, by name, in interleaved rounds; ``GROUP`` subjects are measured together.
    What is in ``part``, where finished groups are kept, is not measured again.
    """
    import pandas as pd

    rows: list[dict[Any, Any]] = pd.read_parquet(part).to_dict("records") if part.exists() else []
    done = {(row["figure"], row["name"]) for row in rows}
    left = [subject for subject in subjects if (subject.figure, subject.name) not in done]
    progress(len(done))
    for start in range(0, len(left), GROUP):
        group = left[start : start + GROUP]
        files = {(i, *key): content for i, subject in enumerate(group) for key, content in subject.files().items()}
        times = measure({"/".join(map(str, key)): content for key, content in files.items()})
        for (i, precision, length), content in files.items():
            taken = times[f"{i}/{precision}/{length}"]
            row = dict(figure=group[i].figure, name=group[i].name, precision=precision, length=length, ms=latency(taken))
            per_round = [latency(calls) for calls in np.array_split(taken, min(rounds, len(taken)))]
            rows.append(
                row | quantiles(taken) | dict(calls=len(taken), round_ms=per_round, bytes=len(content)) | _all(group[i])
            )
        write_parquet(part, pd.DataFrame(rows))
        progress(len(done) + start + len(group))
    return pd.DataFrame(rows)


def _all(subject: Subject) -> dict[str, Any]:
    """A subject's facts, every column of them; None of what it has not."""
    return dict.fromkeys(("channels", "resolution", "mmacs", "params", "images", "top1", "top1_fp32")) | dict(subject.facts)
