"""Trained weights on disk: tensors and plain data only, read back without unpickling anything else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from spaceevo.atomic import atomic_write
from spaceevo.errors import UserError
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.space import Hyperspace, SearchSpace, Subnet, subnet_graph
from spaceevo.space.differences import described, difference
from spaceevo.space.graph import AFFINE
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
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:
        raise UserError(f"{path}: truncated or not a checkpoint ({type(error).__name__})") from None


def save_supernet(path: Path, net: Elastic, space: SearchSpace, **more: Any) -> None:
    """The weights of a supernet of ``space``, or of a subnet of it, with what tells whose they are; ``more``: plain data."""
    more["hyperspace"] = described(space.hyperspace)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_checkpoint(path, {"space": str(space), "padding": net.padding, "state_dict": state, **more})


def load_supernet(
    path: Path,
    hs: Hyperspace,
    qat: str | None = None,
    wanted: SearchSpace | None = None,
    quantizer: Quantizer | None = None,
) -> tuple[Elastic, SearchSpace]:
    """The supernet at ``path`` and its space. ``qat``: it must have been trained quantization-aware; the command that does.
    ``wanted``: the space it must be of; ``quantizer``: what it must have been trained with.

    Raises:
        UserError: it is of another hyperspace or space (which field differs), in FP32 where ``qat`` is asked for, trained
            for another quantizer, or not readable.
    """
    content = load_checkpoint(path)
    if not isinstance(content, dict) or not {"space", "state_dict"} <= set(content):
        raise UserError(f"{path}: not the checkpoint of a supernet")
    if qat is not None and "weight_bits" not in content:
        raise UserError(f"{path}: a supernet in FP32, trained without quantization; make the quantized one with `{qat}`")
    other = None if quantizer is None or "weight_bits" not in content else _other_scheme(content, quantizer)
    if other is not None:
        auto = " (device.weight_bits=auto: 8 with VNNI, 7 on x86 without)" if "weights" in other else ""
        raise UserError(f"{path}: {other}{auto}; train anew with `{qat}`")
    where = difference(content.get("hyperspace", {}), hs)
    if where is not None:
        raise UserError(f"{path}: of another search space, {content['space']}: {where}")
    if wanted is not None and content["space"] != str(wanted):
        where = _first_difference(SearchSpace.parse(content["space"], hs), wanted)
        raise UserError(f"{path}: of another search space, {content['space']}: {where}")
    space = SearchSpace.parse(content["space"], hs)
    net = make_supernet(space, (0.0, 1.0), content.get("padding", "symmetric"))
    try:
        net.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path}: not a supernet of {space} ({str(error).splitlines()[-1].strip()})") from None
    return net.eval(), space


def scheme(quantizer: Quantizer) -> dict[str, Any]:
    """What a checkpoint says of the ``quantizer`` it was trained with."""
    return dict(weight_bits=quantizer.weight_bits, activations=quantizer.activations)


def _other_scheme(content: dict[str, Any], quantizer: Quantizer) -> str | None:
    """In words, where a checkpoint was trained with another quantizer."""
    bits, held = content["weight_bits"], content.get("activations", AFFINE)
    if bits != quantizer.weight_bits:
        return f"trained with weights of {bits} bits, this device's have {quantizer.weight_bits}"
    if held != quantizer.activations:
        return f"trained with {held} activations, this device's are {quantizer.activations} (device.activations)"
    return None


def load_finished(path: Path, space: SearchSpace, quantizer: Quantizer) -> tuple[Elastic, dict[str, Any]]:
    """A subnet that was trained on alone, and what its checkpoint says of it.

    Raises:
        UserError: it is not readable, of another subnet's shape, or trained for another ``quantizer``.
    """
    content = load_checkpoint(path)
    if not isinstance(content, dict) or not {"subnet", "state_dict", "weight_bits"} <= set(content):
        raise UserError(f"{path}: not the checkpoint of a finished subnet")
    other = _other_scheme(content, quantizer)
    if other is not None:
        raise UserError(f"{path}: {other}")
    net = Elastic(subnet_graph(Subnet.parse(space, content["subnet"])), padding=content["padding"])
    try:
        net.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path}: not {content['subnet']} ({str(error).splitlines()[-1].strip()})") from None
    return net.eval().to(memory_format=torch.channels_last), content


def _first_difference(space: SearchSpace, wanted: SearchSpace) -> str:
    """Which stage of two spaces of one hyperspace differs, and in what."""
    for theirs, mine in zip(space.stages, wanted.stages, strict=True):
        for what, a, b in (("block type", theirs.block.type, mine.block.type), ("widths", theirs.widths, mine.widths)):
            if a != b:
                return f"the {what} of its {mine.name} is {a}, here it is {b}"
    return f"here it is {wanted}"
