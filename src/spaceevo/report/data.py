"""What a run folder holds, read once for the report; what is not there is None or empty."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from spaceevo.errors import UserError
from spaceevo.evolution import Table, load_table
from spaceevo.latency.predictor import Predictor
from spaceevo.provenance import FIG8, KERNELS, PREDICTOR, TAU, Record, matches, read_record
from spaceevo.space import Hyperspace, SearchSpace

if TYPE_CHECKING:
    import pandas as pd

WITHIN = 0.10  # a prediction counts as close when it is this near the measured latency


@dataclass(frozen=True)
class RunData:
    """Artifacts of a run as plain data.

    Attributes:
        identity: ``run.yaml``, flat (``data.name``, ``hyperspace.stages``, ...).
        cards: the exported models' cards by rising limit, each with ``folder``, its place relative to the run, ``again_ms``,
            what the benchmark measured (None without one), and ``mistakes``, a picture as of ``examples``.
        examples: a picture of test images of every class, PNG in base 64.
        records: provenance by step, in their order, but for the report's own.
        optional: the steps of them that are no part of the pipeline.
        kernels, lut, history, judged, subnets, benchmark: the parquet tables; latencies in ms, accuracies in percent.
        taus: ``tau.yaml``: how well the table orders the subnets ``judged``.
        fig8, trained: ``fig8_qt.yaml`` and ``.parquet``: random spaces trained, and the tau of their Q-T scores.
        pareto: ``pareto.yaml``: the chosen subnets, the Pareto front and its hypervolume.
        baselines: ``baselines.yaml``: standard networks beside the run's models, and the verdict.
        finetuned: the cards of ``finetuned/``: models trained on for other images.
        table: the accuracy table once more, as the search reads it.
    """

    identity: dict[str, Any]
    host: dict[str, Any] | None
    scores: dict[str, Any] | None
    predictor: Predictor | None
    kernels: pd.DataFrame | None
    lut: pd.DataFrame | None
    search: dict[str, Any] | None
    history: pd.DataFrame | None
    judged: pd.DataFrame | None
    taus: dict[str, Any] | None
    fig8: dict[str, Any] | None
    trained: pd.DataFrame | None
    subnets: pd.DataFrame | None
    pareto: dict[str, Any] | None
    baselines: dict[str, Any] | None
    finetuned: list[dict[str, Any]]
    table: Table | None
    cards: list[dict[str, Any]]
    examples: str | None
    benchmark: pd.DataFrame | None
    records: dict[str, Record]
    optional: frozenset[str]
    hyperspace: Hyperspace
    space: SearchSpace | None

    @property
    def pipeline(self) -> dict[str, Record]:
        """The records of the pipeline's steps alone."""
        return {name: record for name, record in self.records.items() if name not in self.optional}


def load_run(folders: Sequence[Path], steps: Mapping[str, bool]) -> RunData:
    """Read a run; each artifact from the first of ``folders`` that holds it. ``steps``: the names of those that leave records,
    in order, and whether each is optional.

    Raises:
        UserError: none of them is a run folder.
    """
    held = _Held(folders)
    table, plain = held.table, held.plain
    identity = plain("run.yaml")
    if identity is None:
        raise UserError(
            f"run_dir={folders[-1]}: no run.yaml in it, so not a run folder; `python -m spaceevo.pipeline` makes one"
        )
    benchmark = table("benchmark.parquet")
    cards = _cards(held, benchmark)
    found = {step: next(filter(None, (read_record(folder, step) for folder in folders)), None) for step in steps}
    records = {step: record for step, record in found.items() if record is not None}
    search = plain("space.yaml")
    space = search["space"] if search else cards[0]["space"] if cards else None
    hs = _hyperspace(identity, space)
    return RunData(
        identity=identity,
        host=plain("latency/host.json"),
        scores=plain("latency/predictor_scores.json"),
        predictor=Predictor.load(known[0][0]) if (known := held.find(PREDICTOR)) else None,
        kernels=table(KERNELS),
        lut=table("lut.parquet"),
        search=search,
        history=table("search_space.parquet"),
        judged=table(TAU),
        taus=plain("tau.yaml"),
        fig8=plain("fig8_qt.yaml"),
        trained=table(FIG8),
        subnets=table("subnets.parquet"),
        pareto=plain("pareto.yaml"),
        baselines=plain("baselines.yaml"),
        finetuned=_cards(held, None, "finetuned"),
        table=load_table(tables[0][0], hs) if (tables := held.find("lut.parquet")) else None,
        cards=sorted(cards, key=lambda card: (card["limit_ms"], card["mmacs"])),
        examples=held.picture("examples.png"),
        benchmark=benchmark,
        records=records,
        optional=frozenset(step for step, optional in steps.items() if optional),
        hyperspace=hs,
        space=None if space is None else SearchSpace.parse(space, hs),
    )


@dataclass(frozen=True)
class _Held:
    """What ``folders`` hold, each artifact from the first that does."""

    folders: Sequence[Path]

    def find(self, pattern: str) -> list[tuple[Path, str]]:
        for folder in self.folders:
            found = matches(folder, [pattern])
            if found:
                return [(folder / path, path) for path in found]
        return []

    def table(self, name: str) -> pd.DataFrame | None:
        import pandas as pd

        found = self.find(name)
        return pd.read_parquet(found[0][0]) if found else None

    def picture(self, name: str) -> str | None:
        found = self.find(name)
        return base64.b64encode(found[0][0].read_bytes()).decode() if found else None

    def plain(self, name: str) -> dict[str, Any] | None:
        found = self.find(name)
        return yaml.safe_load(found[0][0].read_text()) if found else None


def _cards(held: _Held, benchmark: pd.DataFrame | None, kind: str = "models") -> list[dict[str, Any]]:
    """The cards of a ``kind`` of exported models, each with its ``folder`` and what the ``benchmark`` measured."""
    again = {}
    if benchmark is not None:
        exported = benchmark[benchmark.kind == "exported"]
        again = dict(zip(exported.name, exported.measured_ms, strict=True))
    found = held.find(f"{kind}/*/card.json")
    cards = [json.loads(path.read_text()) | {"folder": str(Path(relative).parent)} for path, relative in found]
    more = ({"again_ms": again.get(card["name"]), "mistakes": held.picture(f"{card['folder']}/mistakes.png")} for card in cards)
    return [card | others for card, others in zip(cards, more, strict=True)]


def _hyperspace(identity: dict[str, Any], space: str | None) -> Hyperspace:
    """The run's hyperspace, under the name that the space's encoding begins with."""
    fields = {key.removeprefix("hyperspace."): value for key, value in identity.items() if key.startswith("hyperspace.")}
    name = fields["name"] if space is None else space.rsplit("-", 2)[0]
    return Hyperspace.from_dict({**fields, "name": name, "blocks": identity["blocks.blocks"]})


@dataclass(frozen=True)
class Cloud:
    """Predicted ms and NSR sums of random subnets."""

    ms: np.ndarray
    nsr: np.ndarray


def cloud(table: Table, spaces: Sequence[SearchSpace], count: int, seed: int) -> Cloud:
    """``count`` random subnets of tabulated sub-stages, spread over ``spaces``: a random resolution, then a random row of
    each stage (as the Q-T score draws them)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((count, 2))
    for i in range(count):
        space, resolution = spaces[i % len(spaces)], table.resolutions[rng.integers(len(table.resolutions))]
        total[i, 0] = table.fixed_ms[resolution]
        for stage, (kind, window) in enumerate(zip(space.types, space.windows, strict=True)):
            key = (stage, kind, window, resolution)
            row = rng.integers(len(table.ms[key]))
            total[i] += table.ms[key][row], table.nsr[key][row]
    return Cloud(total[:, 0], total[:, 1])


def best_spaces(history: pd.DataFrame, hs: Hyperspace, share: float = 0.01) -> list[SearchSpace]:
    """The best ``share`` of the different spaces that a search tried, at least one, best first."""
    ranked = history.drop_duplicates("space").sort_values("score", ascending=False, kind="stable")
    return [SearchSpace.parse(text, hs) for text in ranked.space.head(max(1, round(share * len(ranked))))]


def within_limit(card: dict[str, Any]) -> bool | None:
    """Whether every measurement of an exported model keeps its limit; None where it was never measured."""
    measured = [ms for ms in (card["measured_ms"], card["again_ms"]) if ms is not None]
    return all(ms <= card["limit_ms"] for ms in measured) if measured else None


def close(benchmark: pd.DataFrame, kind: str) -> tuple[int, int]:
    """How many models of a kind were predicted within 10 % of what was measured, and of how many."""
    rows = benchmark[benchmark.kind == kind]
    return int(((rows.predicted_ms / rows.measured_ms - 1).abs() <= WITHIN).sum()), len(rows)


def profiled_blocks(kernels: pd.DataFrame, hs: Hyperspace) -> pd.DataFrame:
    """One row a profiled block: ``type``, ``int8`` and ``fp32`` (ms) and ``speedup``."""
    blocks = kernels[kernels.kind == "block"]
    wide = blocks.pivot(index=["name", "spec"], columns="precision", values="ms").reset_index()
    wide["type"] = [hs.blocks[int(spec.split(":")[1])].type for spec in wide.spec]
    return wide.assign(speedup=wide.fp32 / wide.int8)[["type", "int8", "fp32", "speedup"]]


@dataclass(frozen=True)
class Cell:
    """A stage and block type of the accuracy table at its best width window: mean NSR loss and ms; ``shade`` is 0 at
    the stage's lowest NSR loss and 1 at its highest; ``chosen``: the found space's block type."""

    nsr: float
    ms: float
    widths: tuple[int, ...]
    shade: float
    chosen: bool


def table_cells(lut: pd.DataFrame, hs: Hyperspace, space: SearchSpace | None) -> list[list[Cell]]:
    """A row a stage, a cell a block type: the width window with the lowest mean NSR loss over sub-stages and resolutions."""
    means = lut.groupby(["stage", "type", "window"], as_index=False)[["nsr", "ms"]].mean()
    best = means.loc[means.groupby(["stage", "type"]).nsr.idxmin()].set_index(["stage", "type"])
    rows = []
    for i, spec in enumerate(hs.stages):
        stage = best.loc[i + 1]
        nsr = stage.nsr.to_numpy(float)
        shades = (nsr - nsr.min()) / (np.ptp(nsr) or 1.0)
        chosen = None if space is None else space.types[i]
        cells = zip(stage.index, nsr, stage.ms, stage.window, shades, strict=True)
        rows.append([Cell(n, ms, spec.window_widths(int(w)), shade, t == chosen) for t, n, ms, w, shade in cells])
    return rows
