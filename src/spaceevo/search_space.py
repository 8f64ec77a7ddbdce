"""``python -m spaceevo.search_space``: evolve the search space with the best Q-T score over the latency limits."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say


def run(cfg: Config) -> None:
    """Aging evolution (paper section 4.4) guided by the Q-T score (section 4.2)."""
    import pandas as pd
    from tqdm import tqdm

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.evolution import QTScore, aging_evolution, check_limits, load_table
    from spaceevo.latency.limits import resolve_limits
    from spaceevo.latency.predictor import Predictor

    hs = hyperspace(cfg)
    table = load_table(input_path(cfg, "lut.parquet"), hs)
    limits = resolve_limits(cfg.latency, Predictor.load(input_path(cfg, "latency/predictor.json")), hs, cfg.seed)
    check_limits(table, limits)
    recipe = cfg.search_space
    score = QTScore(table, limits, draws=recipe.draws, top=recipe.top, seed=cfg.seed)
    with tqdm(total=recipe.evaluations, desc="spaces", disable=not cfg.trainer.progress_bar) as bar:
        result = aging_evolution(
            score,
            hs,
            population=recipe.population,
            sample=recipe.sample,
            evaluations=recipe.evaluations,
            seed=cfg.seed,
            progress=lambda done: bar.update(done - bar.n),
            checkpoint=partial(cfg, "search_space") / "evolution.json",
        )
    per_limit = [float(q) for q in score.per_limit(result.space)]
    rows = [
        dict(birth=i.birth, parent=i.parent, mutation=i.mutation, space=str(i.space), score=i.score)
        | {f"q_{n}": float(q) for n, q in enumerate(i.per_limit)}
        for i in result.history
    ]
    write_parquet(output_path(cfg, "search_space.parquet"), pd.DataFrame(rows), {"limits_ms": limits})
    found = dict(
        space=str(result.space),
        score=float(result.score),
        per_limit=per_limit,
        limits_ms=limits,
        subnets=result.space.subnets,
        hyperspace=hs.to_dict(),
    )
    write_yaml(output_path(cfg, "space.yaml"), found)
    say(f"search_space: {result.space}, Q-T score {result.score:.3f} at {', '.join(f'{t:.3f}' for t in limits)} ms")


main = entrypoint("search_space", main_of("search_space"))

if __name__ == "__main__":
    main()
