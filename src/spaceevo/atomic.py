"""Files that are whole or not there: written aside, flushed to the disk, then renamed into place."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

#: After a dot and a file's name: matches it while it is being written, or if its writer was killed then.
UNFINISHED = ".*.tmp*"


def atomic_write(path: Path | str, content: bytes | str | Callable[[Path], object]) -> Path:
    """Put ``content`` at ``path``; a callable is given the path to write to.

    Whatever goes wrong (a full disk, a kill), an older file at ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return path


def write_json(path: Path | str, data: Any) -> Path:
    """``data`` as indented JSON at ``path``, whole or not at all; returns it."""
    return atomic_write(path, json.dumps(data, indent=2) + "\n")


def write_yaml(path: Path | str, data: Any) -> Path:
    """``data``, plain, as YAML at ``path``, whole or not at all; returns it."""
    import yaml

    return atomic_write(path, yaml.safe_dump(data, sort_keys=False, width=120))


def write_parquet(path: Path | str, frame: pd.DataFrame, metadata: dict[str, Any] | None = None) -> Path:
    """``frame`` with ``metadata`` (values as JSON) in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    extra = {key.encode(): json.dumps(value).encode() for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **extra})
    return atomic_write(path, lambda aside: pq.write_table(table, aside))


def write_safetensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """``tensors`` by name at ``path``, whole or not at all; returns it."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return atomic_write(path, lambda aside: save_file(whole, aside, metadata))
