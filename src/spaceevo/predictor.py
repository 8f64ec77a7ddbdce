"""``python -m spaceevo.predictor``: fit the latency predictor to the measurements, or take a given one."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, say


def run(cfg: Config) -> None:
    """The predictor, and its scores on what was held out of a first fit.

    ``device.predictor``: null for the profile's; ``shipped``; a predictor's JSON file; a folder of published tables.
    """
    from spaceevo.atomic import write_json
    from spaceevo.space import one_of_each, superset_graph

    hs = hyperspace(cfg)
    if cfg.device.predictor is None:
        import pandas as pd

        from spaceevo.latency.predictor import fit, held_out_scores

        frame = pd.read_parquet(input_path(cfg, "latency/kernels.parquet"))
        predictor, scores = fit(frame, hs), held_out_scores(frame, hs, cfg.predictor.held_out, cfg.seed)
        what = "held-out subnets"
    else:
        from spaceevo.latency.published import given

        predictor, scores = given(cfg.device.predictor, cfg.device.name, hs, cfg.seed)
        what = "held-out sub-stages of the published tables"
    predictor.save(output_path(cfg, "latency/predictor.json"), scores=scores)
    write_json(output_path(cfg, "latency/predictor_scores.json"), scores)
    if scores:
        say(f"predictor: {scores['within_10pct']:.0f} % of {scores['n']:,} {what} within 10 %")
    unknown = sorted({kind for space in one_of_each(hs) for kind in predictor.unknown(superset_graph(space))})
    if unknown:
        say(f"predictor: knows nothing of {', '.join(unknown)}, which {hs.name} has: they count 0 ms")


main = entrypoint("predictor", main_of("predictor"))

if __name__ == "__main__":
    main()
