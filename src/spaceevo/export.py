"""``python -m spaceevo.export``: write the found subnets as INT8 models and check them against the trained ones."""

from __future__ import annotations

from typing import Any

from spaceevo.app.cli import entrypoint
from spaceevo.app.config import Config, hyperspace
from spaceevo.app.run import input_path, main_of, output_path, say
from spaceevo.errors import ClaimError


def run(cfg: Config) -> None:
    """For every subnet of ``pareto.yaml`` its integer model, that as ONNX and as TFLite, an FP32 ONNX file and a card; the
    only step that sees test data.

    Raises:
        ClaimError: a model is further from the trained one than ``export.tolerance`` and ``export.mean_difference`` allow.
    """
    import yaml
    from tqdm import tqdm

    from spaceevo.app.artifacts import code_version, sha256
    from spaceevo.app.steps import STEPS, command_for
    from spaceevo.app.upstream import step_images
    from spaceevo.data import Normalized, normalize
    from spaceevo.data.labels import class_names
    from spaceevo.deploy.card import data_claims
    from spaceevo.deploy.export import AtSize, baseline, check, int8_and_fp32, judged_ops, recalibrated
    from spaceevo.deploy.gate import images_to_compare, parity_report
    from spaceevo.deploy.integer import save_integer
    from spaceevo.deploy.runtimes import measure_cold, measure_files
    from spaceevo.latency import host
    from spaceevo.nn.evaluate import top1
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.training.checkpoint import load_finished, load_supernet
    from spaceevo.training.recipes import quantizer, start

    start(cfg)
    hs = hyperspace(cfg)
    bits = quantizer(cfg).weight_bits
    net, space = load_supernet(input_path(cfg, "qat.ckpt"), hs, command_for(STEPS["qat"], cfg), weight_bits=bits)
    entries = yaml.safe_load(input_path(cfg, "pareto.yaml").read_text())["chosen"]
    images = step_images("export", cfg, test=True)
    assert images.test is not None and images.test_labels is not None
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    test = Normalized(images.test, cfg.data)
    finished = {entry["name"]: input_path(cfg, f"finished/{entry['name']}.ckpt") for entry in entries}
    inputs = {name: sha256(input_path(cfg, name)) for name in ("qat.ckpt", "pareto.yaml")}
    subnets = {entry["name"]: Subnet.parse(space, entry["subnet"]) for entry in entries}
    labels = class_names(cfg.data)
    models: dict[str, dict[str, bytes]] = {}
    baselines: dict[str, bytes] = {}
    checks, reports, integers = {}, {}, {}
    for name, subnet in tqdm(subnets.items(), "export", disable=not cfg.trainer.progress_bar):
        form = labels, cfg.export.dynamic_batch, cfg.export.float_io
        graph = subnet_graph(subnet)
        own, told = load_finished(finished[name], space, bits)
        pair = int8_and_fp32(own, graph, calibration, quantizer(cfg), *form)
        models[name], integers[name] = pair.files, pair.integer
        inherited = recalibrated(net, graph, calibration, quantizer(cfg)).logits(test)
        checks[name] = check(pair, test, images.test_labels) | dict(
            top1_inherited=top1(inherited, images.test_labels),
            finish=dict(steps=told["steps"], top1_val_inherited=told["top1_inherited"], top1_val=told["top1_val"]),
            finished_sha256=sha256(finished[name]),
        )
        compared = AtSize(test, subnet.resolution)[: images_to_compare(pair.trained.graph)]
        limits = cfg.export.tolerance, cfg.export.mean_difference
        reports[name] = parity_report(checks[name]["files"], judged_ops(pair, compared), len(compared), *limits)
        if cfg.export.calibrate is not None:
            ranges = AtSize(calibration, subnet.resolution)
            baselines[f"{name}/ptq.onnx"], checks[name]["ptq"] = baseline(
                pair.fp32, ranges, cfg.export.calibrate, bits, AtSize(test, subnet.resolution), images.test_labels
            )
    _gate(cfg, reports)
    timed = {f"{name}/{file}": content for name, files in models.items() for file, content in files.items()}
    spread = cfg.benchmark.spread_s
    timing: dict[str, Any] = dict(
        rounds=cfg.benchmark.rounds, runs=cfg.benchmark.runs, threads=cfg.device.threads, spread_s=spread
    )
    times, cold = {}, {}
    if cfg.device.runtime != "none":
        times, cold = measure_files({**timed, **baselines}, **timing), measure_cold(timed, cfg.device.threads)
    common = dict(
        weight_bits=bits,
        padding=net.padding,
        labels=labels,
        data=data_claims(cfg.data, len(test)),
        timing=timing,
        device=cfg.device.name,
        host=host.describe(),
        versions=host.versions(),
        code_version=code_version(),
        inputs=inputs,
    )
    for entry in entries:
        name, subnet = entry["name"], subnets[entry["name"]]
        facts = dict(
            name=name,
            encoding=str(subnet),
            space=str(space),
            resolution=subnet.resolution,
            mmacs=subnet.cost().mmacs,
            params=subnet.cost().params,
            input=dict(shape=[1, hs.channels, subnet.resolution, subnet.resolution], mean=cfg.data.mean, std=cfg.data.std),
            **{key: entry[key] for key in ("top1_val", "limit_ms", "predicted_ms")},
            parity=dict(
                images=reports[name]["images"], ops=len(reports[name]["ops"]), first_apart=reports[name]["first_apart"]
            ),
        )
        save_integer(output_path(cfg, f"models/{name}/model.safetensors"), integers[name])
        _write(cfg, name, models[name], facts | checks[name] | common, times, cold, subnet)


def _gate(cfg: Config, reports: dict[str, dict[str, Any]]) -> None:
    """Write every model's ``parity.json``; of a refused one nothing else stays.

    Raises:
        ClaimError: which model is refused, why, and the first op that is not the trained one.
    """
    from spaceevo.atomic import atomic_write
    from spaceevo.deploy.card import card_text
    from spaceevo.deploy.gate import refusal
    from spaceevo.deploy.runtimes import RUNTIMES

    refused = []
    for name, report in reports.items():
        path = atomic_write(output_path(cfg, f"models/{name}/parity.json"), card_text(report))
        if report["refused"]:
            for old in set(path.parent.iterdir()) - {path}:
                if old.suffix in RUNTIMES or old.name in ("model.safetensors", "card.json", "verify.json"):
                    old.unlink()
            refused.append((name, path))
    if refused:
        name, path = refused[0]
        more = f" ({len(refused) - 1} more are refused)" if len(refused) > 1 else ""
        raise ClaimError(f"export: {name}: {refusal(reports[name])}; see {path}{more}")


def _write(
    cfg: Config,
    name: str,
    files: dict[str, bytes],
    card: dict[str, Any],
    times: dict[str, Any],
    cold: dict[str, float],
    subnet: Any,
) -> None:
    """A model's files, and the card with what was measured of them."""
    from spaceevo.atomic import atomic_write
    from spaceevo.deploy.card import file_claims, write_card
    from spaceevo.deploy.op_latency import graph_rows, op_table
    from spaceevo.latency.measure import latency, quantiles
    from spaceevo.space import subnet_graph

    for file, content in files.items():
        card["files"][file] |= file_claims(content, times.get(f"{name}/{file}"), cold.get(f"{name}/{file}"))
        atomic_write(output_path(cfg, f"models/{name}/{file}"), content)
    int8, fp32 = card["files"]["model.onnx"], card["files"]["fp32.onnx"]
    card |= dict(
        bytes=int8["bytes"],
        **{key: int8[key] for key in ("measured_ms", "quantiles_ms", "cold_ms")},
        **{f"fp32_{key.removeprefix('measured_')}": fp32[key] for key in ("measured_ms", "quantiles_ms", "cold_ms")},
        speedup=None,
        ops=None,
    )
    if int8["measured_ms"] is not None:
        totals = dict(int8=int8["measured_ms"], fp32=fp32["measured_ms"])
        contents = dict(int8=files["model.onnx"], fp32=files["fp32.onnx"])
        card["speedup"] = totals["fp32"] / totals["int8"]
        card["ops"] = op_table(graph_rows(subnet_graph(subnet)), contents, totals, threads=cfg.device.threads)
    if "ptq" in card:
        taken = times.get(f"{name}/ptq.onnx")
        card["ptq"]["measured_ms"] = None if taken is None else latency(taken)
        card["ptq"]["quantiles_ms"] = None if taken is None else quantiles(taken)
    write_card(output_path(cfg, f"models/{name}/card.json"), card)
    baseline = f", {card['ptq']['top1']:.2f} % quantized after training ({card['ptq']['calibrate']})" if "ptq" in card else ""
    timed = "not measured"
    if card["measured_ms"] is not None:
        timed = f"measured {card['measured_ms']:.4g} ms, {card['cold_ms']:.4g} ms out of cold caches"
    say(
        f"export: {name}: test top-1 {card['top1_runtime']:.2f} % in the runtime, {card['top1_fp32']:.2f} % of the same "
        f"weights in FP32 (quantization costs {card['quantization_loss']:.2f} points), {card['top1_inherited']:.2f} % before "
        f"it was finished{baseline}, agreement {card['agreement']:.2f} %, {timed}"
    )


main = entrypoint("export", main_of("export"))

if __name__ == "__main__":
    main()
