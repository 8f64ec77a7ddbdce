"""What steps say that they need of the config, the config has."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Protocol, get_type_hints

import pytest

from spaceevo.app.config import Config
from spaceevo.steps import STEPS

HAS = get_type_hints(Config)


def needs_of(protocol: type[Any]) -> dict[str, Any]:
    """Its attributes with their types, those of its bases too; a property's is what it returns."""
    found: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if base in (object, Protocol) or not getattr(base, "_is_protocol", False):
            continue
        module = vars(sys.modules[base.__module__])
        found |= get_type_hints(base, {**module, **TYPES})
        for name, value in vars(base).items():
            if isinstance(value, property):
                found[name] = get_type_hints(value.fget, {**module, **TYPES})["return"]
    return found


#: What steps import for type checkers alone.
TYPES = {kind.__name__: kind for kind in HAS.values() if inspect.isclass(kind)}


@pytest.mark.parametrize("name", STEPS)
def test_the_config_has_what_a_step_needs(name: str) -> None:
    hints = get_type_hints(STEPS[name].run, {**vars(sys.modules[STEPS[name].run.__module__]), **TYPES})
    needs = needs_of(hints["cfg"])
    assert needs
    for key, kind in needs.items():
        if getattr(kind, "_is_protocol", False):
            for part, of in needs_of(kind).items():
                assert get_type_hints(HAS[key])[part] == of, f"{name}: {key}.{part}"
        elif inspect.isclass(kind):
            assert issubclass(HAS[key], kind), f"{name}: {key}"
        else:
            assert HAS[key] == kind, f"{name}: {key}"


@pytest.mark.parametrize("name", STEPS)
def test_a_step_needs_the_sections_that_its_keys_name(name: str) -> None:
    """A change of any of them makes its artifacts old, so it had better read them; but for those of its inputs' makers."""
    hints = get_type_hints(STEPS[name].run, {**vars(sys.modules[STEPS[name].run.__module__]), **TYPES})
    needs = set(needs_of(hints["cfg"]))
    named = {key.split(".")[0] for key in STEPS[name].keys}
    assert named <= needs | {"device", "data"}, sorted(named - needs)
