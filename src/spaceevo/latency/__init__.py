"""Profilers, which models to measure, and the latency predictor.

``load("pixel4")``: the predictor of a device that one comes with the package for, or of a file that a profile led to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spaceevo.latency.predictor import Predictor


def load(device: str) -> Predictor:
    """The latency predictor of ``device`` (``pixel4``, ``intel_vnni``), or of a path as ``runs/demo/latency/predictor.json``.

    Raises:
        UserError: there is none.
    """
    from spaceevo.latency.published import predictor_of

    return predictor_of(device)
