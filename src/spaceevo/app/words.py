"""What a user needs to know of an error: one line, and the exit code."""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from spaceevo.app.config import schema_of
from spaceevo.errors import UserError, bad_choice, first_line

FAILED = 2
#: How PyTorch, safetensors and pyarrow say it.
FULL_DISK = (
    r"No space left on device|PytorchStreamWriter failed writing|enforce fail at inline_container"
    r"|file write failed|File too large"
)
AFTER_FULL_DISK = "what was there before is whole; free some space and run again"


def exit_code(error: BaseException) -> int:
    """3 for a claim that does not hold, 2 for any other error."""
    return next((cause.exit_code for cause in _chain(error) if isinstance(cause, UserError)), FAILED)


def one_line(error: BaseException, config_name: str = "pipeline") -> str:
    """What a user of an entrypoint needs to know of ``error``."""
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return str(cause).strip().rsplit("spaceevo.errors.UserError: ", 1)[-1]  # a data worker's comes with its traceback
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            where = f" writing {cause.filename}" if cause.filename else ""
            return f"disk full{where}: {cause.strerror}; {AFTER_FULL_DISK}"
        if re.search(FULL_DISK, str(cause)):
            return f"disk full: {first_line(cause)}; {AFTER_FULL_DISK}"
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.filename and cause.strerror:
            return f"{cause.filename}: {cause.strerror[0].lower()}{cause.strerror[1:]} (debug=true shows where)"
    return _config_error(error, config_name) or f"{type(error).__name__}: {first_line(error)} (debug=true shows where)"


def _config_error(error: BaseException, config_name: str) -> str | None:
    """Hydra's and OmegaConf's errors in a line; None for any other."""
    text = "\n".join(str(cause) for cause in _chain(error))
    kind = type(error).__module__.split(".")[0]
    if kind not in ("hydra", "omegaconf"):
        return None
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option:
        listed = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)*)", text)
        choices = listed.group(1).split() if listed else []
        return str(bad_choice(option.group(1), option.group(2), choices))
    unknown = re.search(r"Key '[^']+' (?:not in|is not in) .*\s+full_key: (\S+)", text)
    unknown = unknown or re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return _unknown_key(unknown.group(1), config_name)
    missing = re.search(r"missing mandatory value: .*\s+full_key: (\S+)", text)
    if missing:
        return f"{missing.group(1)}: has no value"
    several = re.search(r"Ambiguous value for argument '([^'=]+)=([^']*)'", text)
    if several:
        key, values = several.groups()
        return f"{key}={values}: several values need -m, which runs one after the other; a list is {key}=[{values}]"
    grammar = getattr(error, "override", None)
    if grammar:
        return f"{grammar}: not key=value as Hydra reads it{_how_to_quote(str(grammar))}"
    wrong = re.search(r"Error (?:merging|parsing) override '?(\S+?)'?$", text, re.MULTILINE)
    return first_line(error) if wrong is None else f"{wrong.group(1)}: must be {_allowed(text)}"


def _how_to_quote(override: str) -> str:
    """What to type where the value has characters that mean something to Hydra."""
    key, equals, value = override.partition("=")
    quoted = f"'{key}=\"{value}\"'"
    return f"; a value with other signs than letters, digits and -./:%+@?* is quoted twice: {quoted}" if equals else ""


def _unknown_key(key: str, config_name: str) -> str:
    """The key and those that could be meant: its siblings."""
    parent: Any = schema_of(config_name)[0]
    *above, _ = key.replace("[", ".").replace("]", "").split(".")
    for name in above:
        if not name.isdigit():
            parent = _dataclass_in(get_type_hints(parent).get(name))
        if parent is None:
            return f"{key}: no such key"
    where = f"{'.'.join(above)} has" if above else "there are"
    return f"{key}: no such key; {where}: {', '.join(field.name for field in dataclasses.fields(parent))}"


def _dataclass_in(hint: Any) -> Any:
    """The dataclass of a field's type: the type itself, or what its list or union holds."""
    candidates = [hint, *get_args(hint)]
    return next((kind for kind in candidates if dataclasses.is_dataclass(kind)), None)


def _allowed(text: str) -> str:
    """What OmegaConf or Hydra wanted, in a user's words."""
    words = {
        r"not a ListConfig, list": "a list, e.g. [1,2]",
        r"to Integer": "a whole number",
        r"to Float": "a number",
        r"valid bool": "true or false",
    }
    return next(
        (word for pattern, word in words.items() if re.search(pattern, text)), "key=value with a value of the key's type"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
