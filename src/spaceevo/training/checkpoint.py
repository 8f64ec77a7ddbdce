"""Trained weights on disk: tensors and plain data only, read back without unpickling anything else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.nn.elastic import Elastic
from spaceevo.space import Hyperspace, SearchSpace
from spaceevo.training.supernet import make_supernet


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """The same content gives the same bytes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours.

    Raises:
        UserError: the file is truncated or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:
        raise UserError(f"{path}: truncated or not a checkpoint ({type(error).__name__}); make it anew") from None


def save_supernet(path: Path, net: Elastic, space: SearchSpace, **more: Any) -> None:
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_checkpoint(path, {"space": str(space), "padding": net.padding, "state_dict": state, **more})


def load_supernet(path: Path, hs: Hyperspace) -> tuple[Elastic, SearchSpace]:
    """The supernet at ``path`` and its space.

    Raises:
        UserError: it is of another hyperspace, or not readable.
    """
    content = load_checkpoint(path)
    if not isinstance(content, dict) or not {"space", "state_dict"} <= set(content):
        raise UserError(f"{path}: not the checkpoint of a supernet")
    space = SearchSpace.parse(content["space"], hs)
    net = make_supernet(space, (0.0, 1.0), content.get("padding", "symmetric"))
    try:
        net.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path}: not a supernet of {space} ({str(error).splitlines()[-1].strip()})") from None
    return net.eval(), space
