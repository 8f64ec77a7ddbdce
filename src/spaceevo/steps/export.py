"""``python -m spaceevo.export``: write the found subnets as INT8 models and check them against the trained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaceevo.progress import progress
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import Exported, hyperspace
from spaceevo.steps.step import DATA, EXAMPLES, MODEL_FILES, SPACE, TIMING, Step

if TYPE_CHECKING:
    from spaceevo.steps.leaving import Judges, Leaving
    from spaceevo.steps.measured import Measured


def run(folder: Folder, cfg: Exported) -> None:
    """For every subnet of ``pareto.yaml`` its integer model, that as ONNX and as TFLite, an FP32 ONNX file and a card; with the
    baselines the only step that sees test data.

    Raises:
        ClaimError: a model is further from the trained one than ``export.tolerance`` and ``export.mean_difference`` allow.
    """
    import yaml

    from spaceevo.atomic import atomic_write
    from spaceevo.provenance import sha256
    from spaceevo.steps.common import quantizer, start
    from spaceevo.steps.leaving import Judges, examples, files_of, gate, words, write
    from spaceevo.steps.measured import measured
    from spaceevo.training.checkpoint import load_supernet

    start(cfg)
    qat = folder.input("qat.ckpt"), hyperspace(cfg), folder.maker("qat.ckpt")
    supernet = load_supernet(*qat, quantizer=quantizer(cfg))
    entries = yaml.safe_load(folder.input("pareto.yaml").read_text())["chosen"]
    by = Judges.of(cfg, folder.images(cfg.data, True))
    inputs = {name: sha256(folder.input(name)) for name in ("qat.ckpt", "pareto.yaml")}
    models, quantized_after = [], {}
    for entry in progress(entries, "export", show=cfg.trainer.progress_bar):
        models.append(_subnet(folder, cfg, entry, *supernet, by))
        if cfg.export.calibrate is not None:
            quantized_after[f"{entry['name']}/ptq.onnx"] = _quantize_after(cfg, models[-1], by)
    gate("export", models)
    atomic_write(folder.output(EXAMPLES), examples(by))
    taken = measured(cfg, files_of(models), quantized_after)
    for model in models:
        _tell_quantized_after(model, taken)
        say(words("export", write(cfg, model, taken, inputs), _training_words(model.claims)))


def _subnet(folder: Folder, cfg: Exported, entry: dict[str, Any], net: Any, space: Any, by: Judges) -> Leaving:
    """The finished subnet of an entry of ``pareto.yaml``, with what it was before that in the supernet ``net``."""
    from spaceevo.deploy.export import recalibrated
    from spaceevo.nn.evaluate import top1
    from spaceevo.provenance import sha256
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import quantizer
    from spaceevo.steps.leaving import file_input, judged
    from spaceevo.training.checkpoint import load_finished

    name, subnet = entry["name"], Subnet.parse(space, entry["subnet"])
    graph, path = subnet_graph(subnet), folder.input(f"finished/{name}.ckpt")
    own, told = load_finished(path, space, quantizer(cfg))
    given = file_input(cfg, graph)
    inherited = recalibrated(net, graph, by.calibrated(given), quantizer(cfg)).logits(by.shown(given).normalized)
    facts = dict(
        encoding=str(subnet),
        space=str(space),
        limit_ms=entry["limit_ms"],
        predicted_ms=entry["predicted_ms"],
        top1_val=told["top1_val"],  # of the finished weights, as they leave
        top1_inherited=top1(inherited, by.labels),
        finish=dict(steps=told["steps"], top1_val_inherited=told["top1_inherited"]),
        finished_sha256=sha256(path),
    )
    return judged(cfg, name, folder.output(f"models/{name}/card.json").parent, own, graph, by, facts)


def _quantize_after(cfg: Exported, model: Leaving, by: Judges) -> bytes:
    """The model's FP32 weights quantized after training, for comparison; its card tells how accurate that is."""
    from spaceevo.deploy.export import baseline
    from spaceevo.deploy.inputs import AtSize
    from spaceevo.steps.common import quantizer
    from spaceevo.steps.leaving import file_input

    assert cfg.export.calibrate is not None
    given, quant = file_input(cfg, model.graph), quantizer(cfg)
    ranges, test = (AtSize(images, given.hw) for images in (by.calibrated(given), by.shown(given).normalized))
    content, model.claims["ptq"] = baseline(model.pair.real, ranges, cfg.export.calibrate, quant, test, by.labels)
    return content


def _tell_quantized_after(model: Leaving, taken: Measured) -> None:
    """The latency of the model quantized after training."""
    if "ptq" in model.claims:
        told = taken.claims("onnxruntime", f"{model.name}/ptq.onnx")
        model.claims["ptq"] |= {key: told[key] for key in ("measured_ms", "quantiles_ms")}


def _training_words(claims: dict[str, Any]) -> str:
    words = f", {claims['top1_inherited']:.2f} % before it was finished"
    if "ptq" in claims:
        words += f", {claims['ptq']['top1']:.2f} % quantized after training ({claims['ptq']['calibrate']})"
    return words


STEP = Step(
    "export",
    "export",
    "writes the found subnets as INT8 models and checks them against the trained ones",
    (*DATA, "data.test_limit", *SPACE, "device", "export", "search_subnet.calibration_images", *TIMING),
    ("pareto.yaml", "qat.ckpt", "finished/*.ckpt"),
    (*(f"models/*/{name}" for name in MODEL_FILES), EXAMPLES),
    run,
    version=5,
)
