"""The exceptions a user is meant to read: one line each, and the exit code of the command."""

import difflib


class UserError(Exception):
    """Bad input: says in one line which key or file, which value, and what is allowed."""

    exit_code = 2


class ClaimError(UserError):
    """Good input, but what is claimed of a model does not hold: says which claim, and by how much it is missed."""

    exit_code = 3


class LimitError(UserError):
    """No subnet keeps a latency limit; ``smallest_ms``: the least limit that one is known to keep."""

    def __init__(self, text: str, smallest_ms: float) -> None:
        super().__init__(text)
        self.smallest_ms = smallest_ms


def bad_value(key: str, value: object, allowed: str) -> UserError:
    """The error for ``key`` having ``value`` where only ``allowed`` is possible."""
    return UserError(f"{key}={value}: must be {allowed}")


def bad_choice(key: str, value: object, choices: object) -> UserError:
    """The error for ``value`` not being among ``choices``, which it lists, and which of them are written nearly so."""
    names = list(map(str, choices))  # type: ignore[call-overload]
    near = difflib.get_close_matches(str(value), names, 3)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    return UserError(f"{key}={value}: no such {key.rsplit('.', 1)[-1]}; there are: {', '.join(names)}{meant}")


def first_line(error: BaseException) -> str:
    """What ``error`` says in its first line, or what it is called where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
