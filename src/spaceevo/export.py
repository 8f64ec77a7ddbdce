"""``python -m spaceevo.export``: write the found subnets as INT8 models and check them against the trained ones."""

from __future__ import annotations

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, say
from spaceevo.errors import UserError


def run(cfg: Config) -> None:
    """An INT8 and an FP32 ONNX file and a card for every subnet of ``pareto.yaml``; the only step that sees test data.

    Raises:
        UserError: a model's labels agree with the fake-quant model's less than ``export.tolerance`` percent.
    """
    import yaml
    from tqdm import tqdm

    from spaceevo.app.artifacts import code_version, sha256
    from spaceevo.atomic import atomic_write
    from spaceevo.data import load_data, normalize
    from spaceevo.deploy.card import write_card
    from spaceevo.deploy.export import check, int8_and_fp32
    from spaceevo.latency import host
    from spaceevo.latency.measure import latency, measure, quantiles
    from spaceevo.space import Subnet
    from spaceevo.training.checkpoint import load_supernet
    from spaceevo.training.recipes import quantizer, start

    start(cfg)
    hs = hyperspace(cfg)
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hs)
    pretrained, _ = load_supernet(input_path(cfg, "supernet.ckpt"), hs)
    entries = yaml.safe_load(input_path(cfg, "pareto.yaml").read_text())["chosen"]
    images = load_data(cfg.data, cfg.seed, test=True)
    assert images.test is not None and images.test_labels is not None
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    test = normalize(images.test, cfg.data)
    inputs = {name: sha256(input_path(cfg, name)) for name in ("qat.ckpt", "supernet.ckpt", "pareto.yaml")}
    subnets = {entry["name"]: Subnet.parse(space, entry["subnet"]) for entry in entries}
    models, cards = {}, {}
    for name, subnet in tqdm(subnets.items(), "export", disable=not cfg.trainer.progress_bar):
        pair = int8_and_fp32(net, pretrained, subnet, calibration, quantizer(cfg))
        cards[name] = check(pair, test, images.test_labels)
        if cards[name]["agreement"] < cfg.export.tolerance:
            raise UserError(
                f"export: {name} gives the trained model's label for {cards[name]['agreement']:.2f} % of the test images, "
                f"less than export.tolerance={cfg.export.tolerance}"
            )
        models[f"{name}/int8"], models[f"{name}/fp32"] = pair.int8, pair.fp32
    times = {}
    if cfg.device.runtime != "none":
        times = measure(models, cfg.benchmark.rounds, cfg.benchmark.runs, cfg.device.threads, spread_s=cfg.benchmark.spread_s)
    for entry in entries:
        name, subnet = entry["name"], subnets[entry["name"]]
        int8, fp32 = times.get(f"{name}/int8"), times.get(f"{name}/fp32")
        atomic_write(output_path(cfg, f"models/{name}/model.onnx"), models[f"{name}/int8"])
        atomic_write(output_path(cfg, f"models/{name}/fp32.onnx"), models[f"{name}/fp32"])
        card = dict(
            name=name,
            encoding=str(subnet),
            space=str(space),
            resolution=subnet.resolution,
            mmacs=subnet.cost().mmacs,
            params=subnet.cost().params,
            bytes=len(models[f"{name}/int8"]),
            **cards[name],
            top1_val=entry["top1_val"],
            limit_ms=entry["limit_ms"],
            predicted_ms=entry["predicted_ms"],
            measured_ms=None if int8 is None else latency(int8),
            quantiles_ms=None if int8 is None else quantiles(int8),
            fp32_ms=None if fp32 is None else latency(fp32),
            fp32_quantiles_ms=None if fp32 is None else quantiles(fp32),
            speedup=None if int8 is None or fp32 is None else latency(fp32) / latency(int8),
            weight_bits=quantizer(cfg).weight_bits,
            input=dict(shape=[1, hs.channels, subnet.resolution, subnet.resolution], mean=cfg.data.mean, std=cfg.data.std),
            device=cfg.device.name,
            host=host.describe(),
            versions=host.versions(),
            code_version=code_version(),
            inputs=inputs,
        )
        write_card(output_path(cfg, f"models/{name}/card.json"), card)
        say(
            f"export: {name}: test top-1 {card['top1_runtime']:.2f} % in the runtime, {card['top1_fp32']:.2f} % in FP32, "
            f"agreement {card['agreement']:.2f} %, measured {card['measured_ms']} ms"
        )


main = entrypoint("export", main_of("export"))

if __name__ == "__main__":
    main()
