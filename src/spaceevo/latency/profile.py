"""Measuring sampled models, group by group, so that a killed profile goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaceevo.atomic import write_parquet
from spaceevo.latency.measure import latency, quantiles
from spaceevo.latency.sampling import Sample
from spaceevo.space import Graph

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

GROUP = 30  # samples measured together, each in both precisions


def profile(
    samples: Sequence[Sample],
    graph: Callable[[Sample], Graph],
    write: Callable[[Graph], tuple[bytes, bytes]],
    measure: Callable[[Mapping[str, bytes]], Mapping[str, np.ndarray]],
    part: Path,
    progress: Callable[[int], object],
) -> pd.DataFrame:
    """One row a sample and precision (int8, fp32): ms and quantiles over its calls.

    ``write`` makes the INT8 and the FP32 model of a graph, and ``measure`` gives ms of single calls of such models, by name.
    Finished groups are kept in ``part``.
    """
    import pandas as pd

    rows: list[dict[Any, Any]] = pd.read_parquet(part).to_dict("records") if part.exists() else []
    for start in range(len(rows) // 2, len(samples), GROUP):
        progress(start)
        group = samples[start : start + GROUP]
        models = {}
        for sample in group:
            models[f"{sample.name}/int8"], models[f"{sample.name}/fp32"] = write(graph(sample))
        times = measure(models)
        for sample in group:
            for precision in ("int8", "fp32"):
                taken = times[f"{sample.name}/{precision}"]
                row = dict(name=sample.name, kind=sample.kind, spec=sample.spec, precision=precision, ms=latency(taken))
                rows.append(row | quantiles(taken) | {"calls": len(taken)})
        write_parquet(part, pd.DataFrame(rows))
    progress(len(samples))
    return pd.DataFrame(rows)
