"""Folders in the authors' format for the hyperspace ``tiny``, and where the published ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spaceevo.space import Hyperspace, format_stage, load_hyperspace, random_stage, stage_input_hw

HS = load_hyperspace("tiny")
PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "published" / "block_lut"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published tables are not at {PUBLISHED}")
LIMITS = {"onnxw": [8, 10, 15, 20, 25], "mobilew": [15, 20, 25, 30, 35]}
REFERENCE = {"onnxw": "onnxw-151122-023231", "mobilew": "mobilew-122222-155400"}


def write_folder(folder: Path, hs: Hyperspace = HS, rows: int = 12, seed: int = 0) -> Path:
    """``rows`` random sub-stages a file; their ms and NSR follow their widths and kernels."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for s, spec in enumerate(hs.stages):
        sizes = [stage_input_hw(hs, r)[s] for r in hs.lut_resolutions]
        for t in spec.types:
            for w in range(spec.windows):
                lines = []
                for i in range(rows):
                    cin, hw = int(rng.choice(hs.input_widths(s))), sizes[i % len(sizes)]
                    blocks = random_stage(hs.elastic(s, t, w), rng)
                    widths = [cin, *(b.width for b in blocks)]
                    ms = sum(a * b.width * b.kernel for a, b in zip(widths, blocks, strict=False)) * hw / 1e5
                    nsr = 2 / sum(widths) ** 0.5 + 0.1 * t + 0.01 * rng.random()
                    lines.append(f"{format_stage(blocks)},1x{cin}x{hw}x{hw},{nsr:.4f},1.5,0.01,{ms:.4f}\n")
                (folder / f"stage{s + 1}_{t}_{w}.csv").write_text("".join(lines))
    return folder
