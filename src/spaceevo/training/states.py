"""State dicts in other people's files: read without running code, and compared key by key with what is wanted."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from spaceevo.errors import UserError, first_line

NAMED = 10  # keys that an error names
#: What a BatchNorm is kept as, and beside that how many batches it has seen.
NORM = ("weight", "bias", "running_mean", "running_var")
BATCHES = "num_batches_tracked"


def read_state(path: Path, typed: str = "path") -> dict[str, Tensor]:
    """The tensors of a file of ``torch.save`` or a ``.safetensors`` file by their keys, without ``module.``. ``typed``: the
    argument that names the file.

    Raises:
        UserError: it is not readable, asks for code to be run, or holds no state dict of tensors.
    """
    content = _content(path, typed)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{typed}={path}: holds no state_dict of tensors")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _content(path: Path, typed: str) -> object:
    from safetensors.torch import load_file

    safe = path.suffix == ".safetensors"
    try:
        return load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{typed}={path}: {error.strerror or first_line(error)}") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class) `?([\w.]+)", str(error))
        raise UserError(f"{typed}={path}: asks to run {asked[1] if asked else 'code'} as it is read: refused") from None
    except Exception as error:  # torch, zip and safetensors have exceptions of their own
        written = "safetensors" if safe else "torch.save"
        raise UserError(f"{typed}={path}: truncated or not a file of {written} ({type(error).__name__})") from None


def unlike(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """In what ``state`` differs from the ``shapes`` it should have, by key; None: it has them, and all values are finite."""
    for what, keys in (("missing", shapes.keys() - state.keys()), ("not known", state.keys() - shapes.keys())):
        if keys:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            return f"{len(keys)} keys {what}: {', '.join(sorted(keys)[:NAMED])}{more}"
    for key, shape in shapes.items():
        if tuple(state[key].shape) != shape:
            return f"{key} is {list(state[key].shape)}, not {list(shape)}"
    return next((f"{key} has values that are not finite" for key, value in state.items() if not value.isfinite().all()), None)
