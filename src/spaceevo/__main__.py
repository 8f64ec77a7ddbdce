"""``python -m spaceevo``: the commands, with what each reads and writes; ``spaceevo <command> ...`` runs one."""

import sys

from spaceevo.errors import bad_choice


def main() -> None:
    """The console script ``spaceevo``."""
    from spaceevo.app.commands import COMMANDS, main_for

    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command is None or command in ("-h", "--help"):
        from spaceevo.app.help import overview

        print(overview())
    elif command not in COMMANDS:
        print(f"error: {bad_choice('command', command, sorted(COMMANDS))}", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv[:2] = [f"spaceevo {command}"]
        main_for(command)()


if __name__ == "__main__":
    main()
