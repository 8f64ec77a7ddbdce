"""The model card: every figure claimed about an exported file, beside the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Keys that other tools read; accuracies and agreement in percent, latencies in ms, ``bytes`` of the INT8 file.
REQUIRED = (
    "encoding",
    "mmacs",
    "params",
    "bytes",
    "top1_fake_quant",
    "top1_runtime",
    "agreement",
    "limit_ms",
    "predicted_ms",
    "measured_ms",
    "fp32_ms",
    "host",
    "versions",
    "inputs",
)


def write_card(path: Path, fields: Mapping[str, Any]) -> None:
    """Write ``fields`` as JSON, atomically: a reader sees the old card or the whole new one.

    Raises:
        KeyError: required keys that are missing.
    """
    missing = [key for key in REQUIRED if key not in fields]
    if missing:
        raise KeyError(f"card without {', '.join(missing)}")
    text = json.dumps(dict(fields), indent=2, allow_nan=False) + "\n"
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
