"""Files are whole or as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spaceevo.atomic import atomic_write, write_parquet, write_yaml

WRITE_TOO_MUCH = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from spaceevo.app.words import one_line
from spaceevo.atomic import atomic_write
try:
    if sys.argv[2] == "bytes":
        atomic_write(sys.argv[1], b"x" * 100_000)
    elif sys.argv[2] == "torch":
        import torch
        atomic_write(sys.argv[1], lambda aside: torch.save(torch.zeros(100_000), aside))
    else:
        import pandas, numpy
        from spaceevo.atomic import write_parquet
        write_parquet(sys.argv[1], pandas.DataFrame({"a": numpy.random.rand(100_000)}))
except Exception as error:
    print(one_line(error))
"""


@pytest.mark.parametrize("kind", ["bytes", "torch", "parquet"])
def test_full_disk_leaves_the_old_file_whole_and_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lut.parquet"
    path.write_bytes(b"old")
    line = [sys.executable, "-c", WRITE_TOO_MUCH, str(path), kind]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert said.startswith("disk full") and len(said.splitlines()) == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_yaml(path, {"a": 1})

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert path.read_text() == "a: 1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_carries_metadata(tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow.parquet as pq

    path = write_parquet(tmp_path / "t.parquet", pd.DataFrame({"ms": [1.5]}), {"fixed_ms": {"28": 0.5}})
    assert pq.read_schema(path).metadata[b"fixed_ms"] == b'{"28": 0.5}'
    assert pd.read_parquet(path)["ms"].tolist() == [1.5]
