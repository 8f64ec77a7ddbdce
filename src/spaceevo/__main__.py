"""``python -m spaceevo``: the commands, with what each reads and writes; ``spaceevo <command> ...`` runs one."""

import sys

from spaceevo.app.entry import main_for
from spaceevo.app.signals import guarded
from spaceevo.errors import bad_choice


def main() -> None:
    """The console script ``spaceevo``."""
    sys.exit(guarded(_chosen))


def _chosen() -> int:
    from spaceevo.app.commands import COMMANDS

    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command is None or command in ("-h", "--help"):
        from spaceevo.app.help import overview

        print(overview())
        return 0
    if command not in COMMANDS:
        print(f"error: {bad_choice('command', command, sorted(COMMANDS))}", file=sys.stderr)
        return 2
    sys.argv[:2] = [f"spaceevo {command}"]
    main_for(command)()
    return 0


if __name__ == "__main__":
    main()
