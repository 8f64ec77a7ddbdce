"""The op graph's costs against the authors' published tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spaceevo.space import BlockChoice, ElasticStage, graph_cost, parse_stage, stage_graph
from spaceevo.space.blocks import BLOCK_TYPES

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "published"
EVERY = 45  # rows from one that is checked to the next
PRINTED = 5e-5 + 1e-9  # the tables print four decimals
FLOAT32 = 2**-22  # two steps of the float32 that the authors added up in

pytestmark = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published tables are not at {PUBLISHED}")


def block_types() -> list[tuple[str, int, str]]:
    """Hyperspace, index and type of the published blocks that exist here."""
    if not PUBLISHED.is_dir():
        return [("none", 0, "none")]
    spaces = yaml.safe_load((PUBLISHED / "hyperspaces.yaml").read_text())
    found = [(name, i, b["type"]) for name, space in spaces.items() for i, b in enumerate(space["blocks"])]
    return [entry for entry in found if entry[2] in BLOCK_TYPES]


@pytest.mark.parametrize(("hyperspace", "index", "kind"), block_types())
def test_published_rows_have_our_mmacs_and_params(hyperspace: str, index: int, kind: str) -> None:
    published = yaml.safe_load((PUBLISHED / "hyperspaces.yaml").read_text())[hyperspace]
    block = BlockChoice(kind, (3,), (None,), published["blocks"][index]["act"])
    rows = 0
    for path in sorted((PUBLISHED / "block_lut" / hyperspace).glob(f"stage*_{index}_*.csv")):
        number = int(path.name[len("stage")])
        stage = ElasticStage("stage", block, (), (), published["stages"][number - 1]["stride"])
        for line in path.read_text().splitlines()[::EVERY]:
            config, shape, _, mmacs, mparams, _ = line.split(",")
            _, cin, hw, _ = map(int, shape.split("x"))
            graph = stage_graph(stage, parse_stage(config), cin, hw)
            cost = graph_cost(graph)
            scalars = 3 * sum(op.has_weight for op in graph.ops)  # the tables count each convolution's quantizer
            for ours, printed in ((cost.mmacs, float(mmacs)), ((cost.params + scalars) / 1e6, float(mparams))):
                assert abs(ours - printed) <= PRINTED + FLOAT32 * printed, (path.name, line)
            rows += 1
    assert rows > 400
