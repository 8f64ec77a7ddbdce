"""``python -m spaceevo.baseline``: standard networks trained alone beside a run's models, and which of them beat which."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config
from spaceevo.app.run import execute, input_path, say


def run(cfg: Config) -> None:
    """Train and compare what is not up to date, draw the report with it, and print the verdict last."""
    import yaml

    from spaceevo.report.verdict import verdict_sums, verdict_words

    if execute("baseline", cfg):
        execute("report", cfg)
    found = yaml.safe_load(input_path(cfg, "baselines.yaml").read_text())
    for line in [*verdict_words(found), *verdict_sums(found)]:
        say(f"baseline: {line}")


main = entrypoint("baseline", run)

if __name__ == "__main__":
    main()
