"""Model cards, and the random models that profiling times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spaceevo.deploy.claims.card import REQUIRED, write_card
from spaceevo.deploy.claims.parity import agreement, float_convolutions, integer_op_report, run_batches, session
from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph


def test_a_card_reads_back(tmp_path: Path) -> None:
    fields = dict.fromkeys(REQUIRED, 1.5)
    write_card(tmp_path / "card.json", fields)
    assert json.loads((tmp_path / "card.json").read_text()) == fields
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


def test_a_card_without_a_required_key_is_not_written(tmp_path: Path) -> None:
    fields = {key: 1 for key in REQUIRED if key not in ("agreement", "fp32_ms")}
    with pytest.raises(KeyError, match="agreement, fp32_ms"):
        write_card(tmp_path / "card.json", fields)
    assert not list(tmp_path.iterdir())


def test_a_card_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    fields = dict.fromkeys(REQUIRED, 1)
    write_card(tmp_path / "card.json", fields)
    with pytest.raises(ValueError):
        write_card(tmp_path / "card.json", {**fields, "agreement": float("nan")})
    assert json.loads((tmp_path / "card.json").read_text()) == fields


def test_agreement_is_in_percent() -> None:
    assert agreement(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 75.0


@pytest.mark.parametrize("bits", [7, 8])
def test_random_models_run_with_the_same_weights_in_both_precisions(bits: int) -> None:
    rng = np.random.default_rng(0)
    space = SearchSpace.parse("small-4562-0000", load_hyperspace("small"))
    graph = subnet_graph(Subnet.sample(space, rng))
    integer, full = random_models(graph, rng, Quantizer(bits))
    assert max(np.abs(w.astype(int)).max() for w in integer.weights.values()) == 2 ** (bits - 1) - 1
    x = rng.random((4, graph.input.channels, graph.input.hw, graph.input.hw), dtype=np.float32)
    int8_logits = run_batches(session(write_int8(integer), exact=True), x)
    fp32_logits = run_batches(session(write_fp32(full)), x)
    assert fp32_logits.std() > 0.01
    assert np.abs(int8_logits - fp32_logits).mean() < np.abs(fp32_logits).mean()
    assert float_convolutions(integer_op_report(write_int8(integer))) == 0


def test_writing_random_models_needs_no_torch() -> None:
    modules = "spaceevo.deploy.integer.random_model, spaceevo.deploy.files.onnx_writer, spaceevo.deploy.claims.parity"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
