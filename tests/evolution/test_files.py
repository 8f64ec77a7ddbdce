"""Tables in the authors' format: what is read, what is kept, and what is refused by file and line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from evolution.tables import HS, PUBLISHED, needs_published, write_folder

from spaceevo.errors import UserError
from spaceevo.evolution import load_table
from spaceevo.paths import cache_dir
from spaceevo.space import parse_stage


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "lut")


def spoil(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines) + "\n")


def test_every_line_of_a_folder_is_a_row(folder: Path) -> None:
    table = load_table(folder, "tiny", device="host")
    assert table.rows is not None and len(table.rows) == sum(len(v) for v in table.nsr.values()) == 4 * 9 * 12
    assert table.fixed_ms == {12: 0.0, 16: 0.0} and table.resolutions == (12, 16)
    for s, t, w, resolution, position in ((0, 0, 0, 12, 0), (1, 2, 1, 16, 3), (3, 1, 2, 12, 5)):
        line = (folder / f"stage{s + 1}_{t}_{w}.csv").read_text().splitlines()[2 * position + (resolution == 16)]
        config, shape, nsr, mmacs, mparams, ms = line.split(",")
        row = table.first_row[s, t, w, resolution] + position
        assert table.nsr[s, t, w, resolution][position] == table.rows.nsr[row] == float(nsr)
        assert table.ms[s, t, w, resolution][position] == table.rows.ms[row] == float(ms)
        assert (table.rows.mmacs[row], table.rows.mparams[row]) == (float(mmacs), float(mparams))
        assert f"1x{table.rows.cin[row]}x{table.rows.hw[row]}x{table.rows.hw[row]}" == shape
        blocks = [(b.kernel, b.width, np.nan if b.expand is None else b.expand) for b in parse_stage(config)]
        np.testing.assert_array_equal(table.rows.blocks[row, : len(blocks)], np.array(blocks, np.float32))
        assert table.rows.depth[row] == len(blocks) and table.rows.last_width[row] == blocks[-1][1]


def test_second_reading_is_from_arrays_until_a_file_changes(folder: Path) -> None:
    first = load_table(folder, "tiny")
    (cached,) = (cache_dir() / "tables").iterdir()
    for path in folder.iterdir():  # the arrays answer: the files' contents are gone, their size and time are not
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = load_table(folder, "tiny")
    assert all(np.array_equal(first.ms[key], again.ms[key]) for key in first.ms)
    write_folder(folder, seed=1)
    assert any(not np.array_equal(first.ms[key], load_table(folder, "tiny").ms[key]) for key in list(first.ms)[:3])
    assert cached.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_arrays_that_cannot_be_read_are_made_anew(folder: Path, content: bytes) -> None:
    first = load_table(folder, "tiny")
    (cached,) = (cache_dir() / "tables").iterdir()
    cached.write_bytes(content)
    again = load_table(folder, "tiny")
    assert all(np.array_equal(first.nsr[key], again.nsr[key]) for key in first.nsr)
    assert cached.stat().st_size > 1000


def test_cache_that_cannot_be_written_is_done_without(folder: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert load_table(folder, "tiny").rows is not None


def test_missing_files_are_listed(folder: Path) -> None:
    (folder / "stage2_1_0.csv").unlink()
    (folder / "stage4_2_2.csv").unlink()
    with pytest.raises(UserError, match=r"lut: hyperspace tiny has stage2_1_0\.csv, stage4_2_2\.csv, which are missing"):
        load_table(folder, HS)


def test_file_without_a_resolution_is_named(folder: Path) -> None:
    path = folder / "stage1_0_0.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "x8x8" in line))
    with pytest.raises(UserError, match="no rows of stage 1 type 0 window 0 resolution 12 of hyperspace tiny"):
        load_table(folder, HS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1.5,", ",nan,", r"mmacs=nan: must be a finite number"),
        (",1.5,", ",,", r"mmacs=: must be a finite number"),
        (",1.5,", ",many,", r"mmacs=many: must be a finite number"),
        (",1.5,", ",", r"5 fields, must be config, shape, nsr, mmacs, mparams, ms"),
        (",1x", ",1x9", r"input 1x9\S+ is not of hyperspace tiny: must be 1xCxHxH with C of 8, 16, 24, 32 and H of"),
        ("#", "#1", r"not of hyperspace tiny window 1: subnet field w \(stage2\): 1\d+ must be one of 16, 24"),
        ("#", ":", r"block '\S+' must be kernel#width#expand"),
    ],
)
def test_impossible_row_is_named_by_file_and_line(folder: Path, old: str, new: str, message: str) -> None:
    spoil(folder / "stage2_0_1.csv", 3, old, new)
    with pytest.raises(UserError, match=rf"stage2_0_1\.csv:3: .*{message}"):
        load_table(folder, HS)


def test_table_of_another_device_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"device=pixel4: hyperspace tiny and its table .* are made for device=host"):
        load_table(folder, "tiny", device="pixel4")


def test_stem_and_head_add_to_the_latency_of_the_fastest(folder: Path) -> None:
    bare, whole = load_table(folder, "tiny"), load_table(folder, "tiny", fixed_ms={12: 2.0, 16: 3.0})
    assert whole.fixed_ms == {12: 2.0, 16: 3.0}
    assert bare.fastest_ms() + 2 <= whole.fastest_ms() <= bare.fastest_ms() + 3


@needs_published
def test_published_table_of_another_hyperspace_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"mobilew: hyperspace onnxw has stage2_0_2\.csv|stage\d_\d_\d\.csv:\d+: not of hyperspace onnxw"
    ):
        load_table(PUBLISHED / "mobilew", "onnxw")


@needs_published
@pytest.mark.parametrize(("name", "device"), [("onnxw", "intel_vnni"), ("mobilew", "pixel4")])
def test_published_tables_load_whole_and_read_no_file_of_theirs_the_second_time(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = load_table(PUBLISHED / name, name, device)
    monkeypatch.setattr("pyarrow.csv.read_csv", None)
    again = load_table(PUBLISHED / name, name, device)
    lines = sum(path.read_bytes().count(b"\n") for path in (PUBLISHED / name).glob("stage*.csv"))
    assert table.rows is not None and again.rows is not None and len(table.rows) == len(again.rows) == lines
