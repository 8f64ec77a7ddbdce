"""``python -m spaceevo.predictor``: fit the latency predictor to the measurements."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, say


def run(cfg: Config) -> None:
    """The predictor, and its scores on subnets held out of a first fit."""
    import pandas as pd

    from spaceevo.atomic import write_json
    from spaceevo.latency.predictor import fit, held_out_scores

    frame = pd.read_parquet(input_path(cfg, "latency/kernels.parquet"))
    hs = hyperspace(cfg)
    scores = held_out_scores(frame, hs, cfg.predictor.held_out, cfg.seed)
    fit(frame, hs).save(output_path(cfg, "latency/predictor.json"))
    write_json(output_path(cfg, "latency/predictor_scores.json"), scores)
    say(f"predictor: {scores['within_10pct']:.0f} % of {scores['n']} held-out subnets within 10 %")


main = entrypoint("predictor", main_of("predictor"))

if __name__ == "__main__":
    main()
