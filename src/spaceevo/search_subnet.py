"""``python -m spaceevo.search_subnet``: the most accurate quantized subnet within each latency limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say
from spaceevo.errors import UserError

if TYPE_CHECKING:
    from spaceevo.space import Subnet

#: A finalist's measured latency must leave this much of the limit, for the measurement's own spread.
HEADROOM = 0.97


def run(cfg: Config) -> None:
    """Constrained evolution (paper section 5) a limit; the best by validation that also measures within its limit."""
    import pandas as pd
    from tqdm import tqdm

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.data import load_data, normalize
    from spaceevo.evolution import constrained_evolution
    from spaceevo.latency.limits import resolve_limits
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import subnet_graph
    from spaceevo.training.checkpoint import load_supernet
    from spaceevo.training.recipes import quantizer, start
    from spaceevo.training.subnets import SubnetEvaluator

    start(cfg)
    hs, recipe = hyperspace(cfg), cfg.search_subnet
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hs)
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    images = load_data(cfg.data, cfg.seed)
    calibration = normalize(images.train[: recipe.calibration_images], cfg.data)
    few = slice(recipe.validation_images)
    folder, quant = partial(cfg, "search_subnet"), quantizer(cfg)
    evaluate = SubnetEvaluator(
        net, quant, calibration, normalize(images.val[few], cfg.data), images.val_labels[few], folder / "evaluated.json"
    )
    judge = SubnetEvaluator(net, quant, calibration, normalize(images.val, cfg.data), images.val_labels, folder / "judged.json")

    def predicted_ms(subnet: Subnet) -> float:
        return predictor.graph_ms(subnet_graph(subnet))

    rows, chosen, seeds = [], [], []
    limits = resolve_limits(cfg.latency, predictor, hs, cfg.seed)
    bar = tqdm(desc="subnets", disable=not cfg.trainer.progress_bar)
    for index, limit in enumerate(sorted(limits)):
        found = constrained_evolution(
            space,
            predicted_ms,
            limit,
            lambda subnets: evaluate.quality(subnets, bar.update),
            population=recipe.population,
            parents=recipe.parents,
            generations=recipe.generations,
            mutate_probability=recipe.mutate_probability,
            seed=cfg.seed + index,
            seeds=seeds,
        )
        ranked = sorted(found, key=lambda e: -e.quality)
        seeds = [e.subnet for e in ranked[: recipe.parents]]
        rows += [
            dict(
                limit_ms=limit,
                generation=e.generation,
                subnet=str(e.subnet),
                predicted_ms=e.cost,
                top1=e.quality,
                mmacs=e.subnet.cost().mmacs,
                params=e.subnet.cost().params,
            )
            for e in found
        ]
        subnet, measured = _within(cfg, limit, [e.subnet for e in ranked], judge.quality)
        chosen.append(
            dict(
                name=f"{cfg.device.name}-{limit:.3f}ms",
                limit_ms=limit,
                subnet=str(subnet),
                space=str(space),
                top1_val=judge.quality([subnet])[0],
                predicted_ms=predicted_ms(subnet),
                measured_ms=measured,
            )
        )
        say(f"search_subnet: {limit:.3f} ms: {chosen[-1]['top1_val']:.2f} % validation top-1, measured {measured} ms")
    bar.close()
    write_parquet(output_path(cfg, "subnets.parquet"), pd.DataFrame(rows))
    write_yaml(output_path(cfg, "pareto.yaml"), chosen)


def _within(cfg: Config, limit: float, ranked: list[Subnet], judge) -> tuple[Subnet, float | None]:  # type: ignore[no-untyped-def]
    """The most accurate on all validation images of the first few in ``ranked`` that measure within ``limit``."""
    from spaceevo.deploy.timing import timing_writer
    from spaceevo.latency.host import weight_bits
    from spaceevo.latency.measure import latency, measure
    from spaceevo.space import subnet_graph

    few = max(1, cfg.search_subnet.measure_top)
    if cfg.device.runtime == "none":
        return max(ranked[:few], key=lambda subnet: judge([subnet])[0]), None
    write = timing_writer(weight_bits(cfg.device.weight_bits))
    for start in range(0, len(ranked), few):
        group = ranked[start : start + few]
        models = {str(subnet): write(subnet_graph(subnet))[0] for subnet in group}
        times = measure(models, cfg.benchmark.rounds, cfg.benchmark.runs, cfg.device.threads)
        measured = {name: latency(values) for name, values in times.items()}
        fitting = [subnet for subnet in group if measured[str(subnet)] <= HEADROOM * limit]
        if fitting:
            best = max(fitting, key=lambda subnet: judge([subnet])[0])
            return best, measured[str(best)]
    raise UserError(f"latency.limits_ms={limit:.3f}: {len(ranked)} subnets are predicted within it, none measures within it")


main = entrypoint("search_subnet", main_of("search_subnet"))

if __name__ == "__main__":
    main()
