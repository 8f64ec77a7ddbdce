"""The one subnet that ``model=`` asks the search for."""

from __future__ import annotations

from collections.abc import Sequence

from spaceevo.errors import UserError
from spaceevo.space import SearchSpace, Subnet, published_model


def asked_subnet(name: str, space: SearchSpace, limits: Sequence[float]) -> Subnet:
    """The subnet of ``space`` that is called ``name``: a published model, or an encoding.

    Raises:
        UserError: it is of another space, or not one limit is given for it.
    """
    if len(limits) != 1:
        raise UserError(f"model={name}: give one limit that it is to keep, e.g. latency.limits_ms=[{limits[-1]:g}]")
    return subnet_called(name, space)


def subnet_called(name: str, space: SearchSpace) -> Subnet:
    """The same, whatever the limits.

    Raises:
        UserError: it is of another space.
    """
    if is_encoding(name):
        return Subnet.parse(space, name)
    model = published_model(name)
    if model.space != str(space):
        raise UserError(f"model={name}: is of space={model.space}, not of {space}")
    return Subnet.parse(space, model.subnet)


def is_encoding(name: str) -> bool:
    """Whether ``name`` is a subnet's encoding, and no published name."""
    return name.startswith("d") and "_" in name
