"""``python -m spaceevo``: the entrypoints, with what each reads and writes."""

from spaceevo.app.help import overview


def main() -> None:
    print(overview())


if __name__ == "__main__":
    main()
