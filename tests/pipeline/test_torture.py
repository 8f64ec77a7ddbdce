"""A few rounds of ``make torture``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from torture import can_mount, filled, killed, undisturbed


@pytest.mark.slow
def test_ten_signals_at_random_moments_cost_nothing(tmp_path: Path) -> None:
    whole, seconds = undisturbed(tmp_path / "whole")
    verdicts = killed(tmp_path, whole, seconds, 10, random.randrange(2**32))
    assert sum(verdict.times for verdict in verdicts) == 10
    assert [verdict for verdict in verdicts if verdict.wrong] == []


@pytest.mark.slow
def test_a_disk_that_fills_costs_nothing(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("no file system may be mounted here")
    whole, _ = undisturbed(tmp_path / "whole")
    verdicts = filled(tmp_path, whole, ("teacher", "lut", "finish", "export"))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
