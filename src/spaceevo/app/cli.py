"""Command lines: compose the config with Hydra, call the entrypoint, answer bad input with one line."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args, get_type_hints

from spaceevo.errors import UserError, bad_choice

FAILED, INTERRUPTED = 2, 130
#: How PyTorch, safetensors and pyarrow say it.
FULL_DISK = (
    r"No space left on device|PytorchStreamWriter failed writing|enforce fail at inline_container"
    r"|file write failed|File too large"
)
AFTER_FULL_DISK = "what was there before is whole; free some space and run again"


def entrypoint(config_name: str, run: Callable[[Any], object]) -> Callable[[], None]:
    """The ``main`` of an entrypoint: ``run`` gets the typed config of ``conf/<config_name>.yaml`` and its overrides.

    Exit codes: 0, 2 for bad input and where a job of a multirun failed, 3 where a model is not what it claims (one line each
    on standard error), 130 when interrupted.
    """

    def main() -> None:
        sys.argv[1:] = arguments = [_quoted(argument) for argument in sys.argv[1:]]
        if {"-h", "--help"} & set(arguments):
            from spaceevo.app.help import entrypoint_help

            print(entrypoint_help(config_name))
            return
        try:
            _check_flags(arguments)
            failed = _hydra_main(config_name, run)
        except KeyboardInterrupt:
            sys.exit(_fail("interrupted: run the same command again to go on", INTERRUPTED))
        except Exception as error:
            if _debugging(arguments):
                traceback.print_exc()
                sys.exit(exit_code(error))
            sys.exit(_fail(one_line(error, config_name), exit_code(error)))
        for line in failed:
            _fail(line, FAILED)
        if failed:
            sys.exit(FAILED)

    return main


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
            return f"disk full: {_first_line(cause)}; {AFTER_FULL_DISK}"
    return _config_error(error, config_name) or f"{type(error).__name__}: {_first_line(error)} (debug=true shows where)"


def _hydra_main(config_name: str, run: Callable[[Any], object]) -> list[str]:
    """Run the command line.

    Returns:
        The failed jobs of a multirun, a line each.
    """
    import hydra
    from hydra._internal.utils import get_args_parser
    from omegaconf import DictConfig

    from spaceevo.app.standalone import schema_of
    from spaceevo.paths import conf_dir

    _, read = schema_of(config_name)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this module instead of being printed by Hydra
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        from spaceevo.app.sweep import check_launcher, sweep

        check_launcher(sys.argv[1:])
        jobs = sweep(config_name, run, get_args_parser().parse_args(), _debugging(sys.argv[1:]))
        return [f"{job.name}: {job.error}" for job in jobs if job.error is not None]
    failures: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        try:
            run(read(cfg))
        except Exception as error:  # kept from Hydra, which would tell more than a user needs
            failures.append(error)

    hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base="1.3")(job)()
    if failures:
        raise failures[0]
    return []


def _quoted(argument: str) -> str:
    """Quotes around a subnet's encoding, whose # Hydra's grammar does not read."""
    key, equals, value = argument.partition("=")
    return f'{key}="{value}"' if equals and "#" in value and value[0] not in "\"'[{" else argument


def _check_flags(arguments: Sequence[str]) -> None:
    """Hydra's own flags pass; any other is named, and so is one that a multirun does not take."""
    from hydra._internal.utils import get_args_parser

    multirun = {"-m", "--multirun"}
    flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag.startswith("-") and flag not in flags:
            raise UserError(f"{flag}: no such option; keys are set with key=value, and there are --help and -m (multirun)")
        if flag.startswith("-") and flag not in multirun and multirun & set(arguments):
            raise UserError(f"{flag}: does not go with -m (multirun)")


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
    grammar = getattr(error, "override", None)
    if grammar:
        return f"{grammar}: not key=value as Hydra reads it ({_first_line(error)})"
    wrong = re.search(r"Error (?:merging|parsing) override '?(\S+?)'?$", text, re.MULTILINE)
    return _first_line(error) if wrong is None else f"{wrong.group(1)}: must be {_allowed(text)}"


def _unknown_key(key: str, config_name: str) -> str:
    """The key and those that could be meant: its siblings."""
    from spaceevo.app.standalone import schema_of

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


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _debugging(arguments: Sequence[str]) -> bool:
    return os.environ.get("SPACEEVO_DEBUG", "") not in ("", "0") or any(
        argument.lower() in ("debug=true", "debug=1", "debug=yes", "debug=on") for argument in arguments
    )


def _fail(text: str, code: int) -> int:
    print(text if code == INTERRUPTED else f"error: {text}", file=sys.stderr, flush=True)
    return code
