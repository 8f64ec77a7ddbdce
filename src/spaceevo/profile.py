"""``python -m spaceevo.profile``: measure INT8 and FP32 blocks and subnets of the hyperspace on the device."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import main_of, output_path, partial


def run(cfg: Config) -> None:
    """One row a measured model and precision, and what the host is."""
    import numpy as np
    from tqdm import tqdm

    from spaceevo.atomic import write_json, write_parquet
    from spaceevo.deploy.timing import timing_writer
    from spaceevo.latency import host
    from spaceevo.latency.profile import profile
    from spaceevo.latency.sampling import graph_of, sample_models

    bits = host.weight_bits(cfg.device.weight_bits)
    recipe = cfg.profile
    hs = hyperspace(cfg)
    samples = sample_models(hs, recipe.blocks, recipe.subnets, np.random.default_rng(cfg.seed))
    with tqdm(total=len(samples), desc="profile", disable=not cfg.trainer.progress_bar) as bar:
        frame = profile(
            samples,
            lambda sample: graph_of(sample.kind, sample.spec, hs),
            timing_writer(bits, cfg.device.padding),
            recipe.rounds,
            recipe.runs,
            cfg.device.threads,
            part=partial(cfg, "profile") / "kernels.parquet",
            progress=lambda done: bar.update(done - bar.n),
        )
    write_json(output_path(cfg, "latency/host.json"), host.describe() | {"weight_bits": bits, "threads": cfg.device.threads})
    write_parquet(output_path(cfg, "latency/kernels.parquet"), frame)


main = entrypoint("profile", main_of("profile"))

if __name__ == "__main__":
    main()
