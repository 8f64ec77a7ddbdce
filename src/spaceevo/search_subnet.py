"""``python -m spaceevo.search_subnet``: the most accurate quantized subnet within each latency limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, partial, say
from spaceevo.errors import UserError

if TYPE_CHECKING:
    from spaceevo.evolution import Evaluated
    from spaceevo.space import Subnet

#: Predicted and measured latencies stay below this much of the limit: room for the errors of either.
HEADROOM, MEASURED_HEADROOM = 0.95, 0.98


def run(cfg: Config) -> None:
    """Constrained evolution (paper section 5) a limit; the best by validation that also measures within its limit."""
    import pandas as pd
    from tqdm import tqdm

    from spaceevo.atomic import write_parquet, write_yaml
    from spaceevo.data import load_data, normalize
    from spaceevo.evolution import constrained_evolution
    from spaceevo.latency.limits import resolve_limits
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.training.checkpoint import load_supernet
    from spaceevo.training.recipes import quantizer, start
    from spaceevo.training.subnets import SubnetEvaluator

    start(cfg)
    hs, recipe = hyperspace(cfg), cfg.search_subnet
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hs)
    predictor = Predictor.load(input_path(cfg, "latency/predictor.json"))
    images = load_data(cfg.data, cfg.seed)
    calibration = normalize(images.train[: recipe.calibration_images], cfg.data)
    validation, folder, quant = normalize(images.val, cfg.data), partial(cfg, "search_subnet"), quantizer(cfg)
    few = slice(recipe.validation_images)
    searcher = SubnetEvaluator(net, quant, calibration, validation[few], images.val_labels[few], folder / "evaluated.json")
    judge = SubnetEvaluator(net, quant, calibration, validation, images.val_labels, folder / "judged.json")

    def predicted_ms(subnet: Subnet) -> float:
        return predictor.graph_ms(subnet_graph(subnet))

    def needed_ms(subnet: Subnet) -> float:
        return predicted_ms(subnet) / HEADROOM

    rows: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    seeds = [Subnet.largest(space, resolution) for resolution in hs.resolutions]
    with tqdm(desc="subnets", disable=not cfg.trainer.progress_bar) as bar:
        for index, limit in enumerate(sorted(resolve_limits(cfg.latency, predictor, hs, cfg.seed))):
            found = constrained_evolution(
                space,
                needed_ms,
                limit,
                lambda subnets: searcher.quality(subnets, bar.update),
                population=recipe.population,
                parents=recipe.parents,
                generations=recipe.generations,
                mutate_probability=recipe.mutate_probability,
                seed=cfg.seed + index,
                seeds=seeds,
            )
            rows += [_row(limit, evaluated) for evaluated in found]
            ranked = [e.subnet for e in sorted(found, key=lambda e: -e.quality)]
            seeds += ranked[: recipe.parents]
            winners = [Subnet.parse(space, entry["subnet"]) for entry in chosen]  # of smaller limits: never do worse
            finalists = recipe.measure_top + len(winners)
            best, measured = _within(cfg, limit, list(dict.fromkeys([*winners, *ranked])), finalists, judge.quality)
            accuracy = judge.quality([best])[0]
            chosen.append(
                dict(
                    name=f"{cfg.device.name}-{limit:.3f}ms",
                    limit_ms=limit,
                    subnet=str(best),
                    space=str(space),
                    top1_val=accuracy,
                    predicted_ms=predicted_ms(best),
                    measured_ms=measured,
                )
            )
            timed = "" if measured is None else f", measured {measured:.4f} ms"
            say(f"search_subnet: {limit:g} ms: {accuracy:.2f} % validation top-1, predicted {predicted_ms(best):.4f} ms{timed}")
    write_parquet(output_path(cfg, "subnets.parquet"), pd.DataFrame(rows))
    write_yaml(output_path(cfg, "pareto.yaml"), chosen)


def _row(limit: float, evaluated: Evaluated) -> dict[str, Any]:
    cost = evaluated.subnet.cost()
    return dict(
        limit_ms=limit,
        generation=evaluated.generation,
        subnet=str(evaluated.subnet),
        predicted_ms=evaluated.cost * HEADROOM,
        top1=evaluated.quality,
        mmacs=cost.mmacs,
        params=cost.params,
    )


def _within(
    cfg: Config, limit: float, ranked: list[Subnet], few: int, judge: Callable[[list[Subnet]], list[float]]
) -> tuple[Subnet, float | None]:
    """Of the first ``few`` in ``ranked`` that measure within ``limit``, the most accurate on all validation images, and
    its ms.

    Raises:
        UserError: none of them all measures within the limit.
    """
    from spaceevo.deploy.timing import timing_writer
    from spaceevo.latency.host import weight_bits
    from spaceevo.latency.measure import latency, measure
    from spaceevo.space import subnet_graph

    if cfg.device.runtime == "none":
        return max(zip(judge(ranked[:few]), ranked, strict=False), key=lambda pair: pair[0])[1], None
    write = timing_writer(weight_bits(cfg.device.weight_bits))
    measured: dict[Subnet, float] = {}
    fitting: list[Subnet] = []
    for start in range(0, len(ranked), few):
        group = ranked[start : start + few]
        models = {str(subnet): write(subnet_graph(subnet))[0] for subnet in group}
        spread_s = cfg.benchmark.spread_s / 4  # the claim is measured at the export
        times = measure(models, cfg.benchmark.rounds, cfg.benchmark.runs, cfg.device.threads, spread_s=spread_s)
        measured |= {subnet: latency(times[str(subnet)]) for subnet in group}
        fitting = [subnet for subnet, ms in measured.items() if ms <= MEASURED_HEADROOM * limit][:few]
        if len(fitting) == few:
            break
    if not fitting:
        fastest = min(measured.values())
        raise UserError(
            f"latency.limits_ms={limit:g}: none of the {len(ranked)} subnets predicted within it measures within it; "
            f"the fastest takes {fastest:.4g} ms (the smallest reachable is {fastest / MEASURED_HEADROOM:.4g} ms)"
        )
    _, best = max(zip(judge(fitting), fitting, strict=True), key=lambda pair: pair[0])
    return best, measured[best]


main = entrypoint("search_subnet", main_of("search_subnet"))

if __name__ == "__main__":
    main()
