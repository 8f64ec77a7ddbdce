"""Command lines: compose the config with Hydra, call the entrypoint, answer bad input with one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from spaceevo.app.signals import guarded, raise_if_stopped
from spaceevo.errors import UserError

FAILED = 2


def entrypoint(config_name: str, run: Callable[[Any], object]) -> Callable[[], None]:
    """The ``main`` of an entrypoint: ``run`` gets the typed config of ``conf/<config_name>.yaml`` and its overrides.

    Exit codes: 0, 2 for bad input and where a job of a multirun failed, 3 where a model is not what it claims (one line each
    on standard error), 130 when interrupted, 143 when terminated, 141 where nobody reads the output.
    """

    def main() -> None:
        code = guarded(lambda: _exit_code(config_name, run))
        if code:
            sys.exit(code)

    return main


def _exit_code(config_name: str, run: Callable[[Any], object]) -> int:
    sys.argv[1:] = arguments = [_quoted(argument) for argument in _worded(config_name, sys.argv[1:])]
    if {"-h", "--help"} & set(arguments):
        from spaceevo.app.help import entrypoint_help

        print(entrypoint_help(config_name))
        return 0
    try:
        _check_flags(arguments)
        failed = _hydra_main(config_name, run)
    except BrokenPipeError:
        raise
    except Exception as error:
        raise_if_stopped()
        from spaceevo.app.words import exit_code, one_line

        if _debugging(arguments):
            traceback.print_exc()
        else:
            _tell(one_line(error, config_name))
        return exit_code(error)
    for line in failed:
        _tell(line)
    return FAILED if failed else 0


def _hydra_main(config_name: str, run: Callable[[Any], object]) -> list[str]:
    """Run the command line.

    Returns:
        The failed jobs of a multirun, a line each.
    """
    import hydra
    from hydra._internal.utils import get_args_parser
    from omegaconf import DictConfig

    from spaceevo.app.composer import composer
    from spaceevo.app.config import schema_of
    from spaceevo.paths import conf_dir

    _, read = schema_of(config_name)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this module instead of being printed by Hydra
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        from spaceevo.app.sweep import check_launcher, sweep

        check_launcher(sys.argv[1:])
        jobs = sweep(config_name, run, get_args_parser().parse_args(), _debugging(sys.argv[1:]))
        return [job.failure for job in jobs if job.error is not None]
    failures: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        try:
            run(read(cfg))
        except Exception as error:  # kept from Hydra, which would tell more than a user needs
            failures.append(error)

    if any(argument.lstrip("+").startswith(("-", "hydra.mode=")) for argument in sys.argv[1:]):
        hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base="1.3")(job)()
    else:  # as above, which composes the config once more, to learn that this is no multirun
        with composer(config_name) as composing:
            composing.run(config_name, job, sys.argv[1:])
    if failures:
        raise failures[0]
    return []


def _worded(config_name: str, arguments: Sequence[str]) -> list[str]:
    """The word after ``spaceevo.data``, as in ``spaceevo.data check``, as the value of its key ``do``."""
    word = arguments[0] if config_name == "data" and arguments else ""
    return [f"do={word}", *arguments[1:]] if word.isalpha() else list(arguments)


def _quoted(argument: str) -> str:
    """Quotes around a value with characters that Hydra's grammar does not read: a subnet's #, letters and signs of paths; and
    the key that is a word of Python's as our config has it."""
    key, equals, value = argument.partition("=")
    if equals and key.lstrip("+") == "from":
        return _quoted(f"{key}_={value}")
    if not equals or not re.search(r"[#=~&;!<>|^`]|[^\x00-\x7f]", value) or re.search(r"""['"\[\]{}(),\\$]""", value):
        return argument
    return f'{key}="{value}"'


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


def _debugging(arguments: Sequence[str]) -> bool:
    return os.environ.get("SPACEEVO_DEBUG", "") not in ("", "0") or any(
        argument.lower() in ("debug=true", "debug=1", "debug=yes", "debug=on") for argument in arguments
    )


def _tell(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)
