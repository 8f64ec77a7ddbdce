"""How a trained network leaves, a found subnet or a standard one: its files, the gate, the measurement, the card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spaceevo.atomic import atomic_write
from spaceevo.data import Images, normalize
from spaceevo.data.config import DataConfig
from spaceevo.data.labels import class_names
from spaceevo.deploy.claims.by_class import unseen
from spaceevo.deploy.claims.card import card_text, content_claims, data_claims, sealed, write_card
from spaceevo.deploy.claims.emulated import emulated_rows, emulated_words, not_exact
from spaceevo.deploy.claims.gate import OTHERS, images_to_compare, parity_report, refusal
from spaceevo.deploy.claims.ran import in_runtime, ran
from spaceevo.deploy.config import PROBABILITIES
from spaceevo.deploy.export import Form, ModelPair, check, int8_and_fp32, judged_ops
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.inputs import Shown, calibration, shown
from spaceevo.deploy.integer.model import save_integer
from spaceevo.deploy.readme import readme
from spaceevo.deploy.runtimes.op_latency import graph_rows, op_table
from spaceevo.errors import ClaimError
from spaceevo.nn.elastic import Elastic
from spaceevo.provenance import code_version
from spaceevo.sliced import Sliced
from spaceevo.space import Graph, graph_cost
from spaceevo.space.graph import INPUT
from spaceevo.steps.common import quantizer
from spaceevo.steps.measured import Measured, timing
from spaceevo.steps.needs import Exported
from spaceevo.steps.step import MISTAKES, REFUSED

PROFILED = {"int8": "model.onnx", "fp32": "fp32.onnx"}  # onnxruntime tells how long each op takes


@dataclass(frozen=True)
class Judges:
    """What models are calibrated on (``few`` training images, and these normalized), and the ``test`` images that they are
    judged by; both uint8 ``[N, C, H, W]`` of ``data``."""

    few: Sliced[Tensor]
    calibration: Tensor
    test: Sliced[Tensor]
    labels: Tensor
    data: DataConfig

    @staticmethod
    def of(cfg: Exported, images: Images) -> Judges:
        """Of a run's ``images``, test images among them."""
        assert images.test is not None and images.test_labels is not None
        few = images.train[: cfg.search_subnet.calibration_images]
        return Judges(few, normalize(few, cfg.data), images.test, images.test_labels, cfg.data)

    def calibrated(self, given: FileInput) -> Tensor:
        """What BatchNorm statistics of a model whose files are ``given`` images so are recalibrated on, normalized."""
        return calibration(self.few, self.data, given)

    def shown(self, given: FileInput) -> Shown:
        """The test images for such a model, and for its judges."""
        return shown(self.test, self.data, given)


@dataclass
class Leaving:
    """A model on its way into ``folder``: its files, what the gate has to say of it (``parity.json``), the ``claims`` that its
    card will make, as far as they are known, and a picture of its surest mistakes."""

    name: str
    folder: Path
    graph: Graph
    pair: ModelPair
    report: dict[str, Any]
    claims: dict[str, Any]
    mistakes: bytes


def judged(cfg: Exported, name: str, folder: Path, net: Elastic, graph: Graph, by: Judges, facts: Mapping[str, Any]) -> Leaving:
    """``graph`` in the trained ``net`` as model files, run over the test images and compared op by op with the trained model.
    ``facts``: what else its card tells."""
    given, labels, cost = file_input(cfg, graph), class_names(cfg.data), graph_cost(graph)
    form = Form(given, cfg.export.output == PROBABILITIES, labels, cfg.export.dynamic_batch, cfg.export.float_io)
    pair = int8_and_fp32(net, graph, by.calibrated(given), quantizer(cfg), form, cfg.device.runtime)
    images = by.shown(given)
    checks = check(pair, images, by.labels)
    compared = min(len(by.test), images_to_compare(pair.trained.graph))
    limits = cfg.export.tolerance, cfg.export.mean_difference
    asked = {} if pair.runtime.owns else {pair.runtime.name: in_runtime(checks, pair.runtime)}
    report = parity_report(checks["files"], judged_ops(pair, images, compared), compared, *limits, asked)
    int8 = {file: content for file, content in pair.files.items() if file != pair.runtime.fp32}
    elsewhere = emulated_rows(cfg.export.emulate, int8, pair.integer, images, quantizer(cfg).weight_bits)
    report["refused"] += not_exact(elsewhere)
    claims = dict(
        name=name,
        **facts,
        resolution=graph.input.hw,
        mmacs=cost.mmacs,
        params=cost.params,
        input=given.claims(),
        output=cfg.export.output,
        parity=dict(images=report["images"], ops=len(report["ops"]), first_apart=report["first_apart"]),
        **checks,
        **({"emulated": elsewhere} if elsewhere else {}),
        weight_bits=quantizer(cfg).weight_bits,
        activations=cfg.device.activations,
        padding=net.padding,
        labels=labels,
        data=data_claims(cfg.data, len(by.test)),
    )
    return Leaving(name, folder, graph, pair, report, claims, _mistakes(by, checks["classes"]["mistakes"], labels))


def _mistakes(by: Judges, mistakes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """The test images of ``mistakes`` as a picture."""
    from spaceevo.report.predictions import grid, png

    images = [by.test[one["image"] : one["image"] + 1][0].numpy() for one in mistakes]
    titles = [f"{names[one['label']]}, not {names[one['said']]}\n({100 * one['probability']:.0f} % sure)" for one in mistakes]
    return png(grid(images, titles))


def files_of(models: Sequence[Leaving]) -> dict[str, bytes]:
    """The files of ``models`` by ``<model>/<file>``."""
    return {f"{model.name}/{file}": content for model in models for file, content in model.pair.files.items()}


def file_input(cfg: Exported, graph: Graph) -> FileInput:
    """What the files of ``graph`` take."""
    return FileInput.of(cfg.export.input, cfg.data, graph.input.hw)


def gate(step: str, models: Sequence[Leaving]) -> None:
    """Let all of ``models`` leave, or none: the files of a refused one and why it is are kept aside, in ``refused`` beside
    whatever its folder holds of an earlier export, which stays.

    Raises:
        ClaimError: which model is refused, why, and the first op that is not the trained one.
    """
    for model in models:
        shutil.rmtree(model.folder / REFUSED, ignore_errors=True)
    refused = [model for model in models if model.report["refused"]]
    for model in refused:
        _write_files(model, model.folder / REFUSED)
    if refused:
        model, *others = refused
        more = f" ({len(others)} more are refused)" if others else ""
        path = model.folder / REFUSED / "parity.json"
        raise ClaimError(f"{step}: {model.name}: {refusal(model.report)}; see {path}{more}")


def _write_files(model: Leaving, folder: Path) -> None:
    """What a model's folder holds beside its card."""
    save_integer(folder / "model.safetensors", model.pair.integer)
    for name, content in model.pair.files.items():
        atomic_write(folder / name, content)
    atomic_write(folder / "parity.json", card_text(model.report))
    atomic_write(folder / MISTAKES, model.mistakes)


def write(cfg: Exported, model: Leaving, taken: Measured, inputs: Mapping[str, str]) -> dict[str, Any]:
    """A model's files, and the card with what was measured of them. ``inputs``: sha256 of what it was made from.

    Returns:
        The card.
    """
    _write_files(model, model.folder)
    files, card = model.pair.files, dict(model.claims)
    for one in ran(card):
        card_of = content_claims(files[one.file]) if one.own else {}
        one.claims.update(card_of | taken.claims(one.runtime, f"{model.name}/{one.file}"))
    runtime = model.pair.runtime
    int8, fp32 = (in_runtime(card, runtime)[name] for name in (runtime.int8, runtime.fp32))
    card |= dict(
        runtime=runtime.name,
        timing=timing(cfg),
        device=cfg.device.name,
        host=taken.machine["host"] | taken.machine["conditions"],
        versions=taken.machine["versions"],
        code_version=code_version(),
        inputs=dict(inputs),
        bytes=len(files[runtime.int8]),
        **{key: int8[key] for key in ("measured_ms", "quantiles_ms", "cold_ms")},
        **{f"fp32_{key.removeprefix('measured_')}": fp32[key] for key in ("measured_ms", "quantiles_ms", "cold_ms")},
        speedup=None,
        ops=None,
    )
    if int8["measured_ms"] is not None:
        card["speedup"] = fp32["measured_ms"] / int8["measured_ms"]
    if int8["measured_ms"] is not None and cfg.device.at == "here":
        timed = {precision: name for precision, name in PROFILED.items() if name in files}
        totals = {precision: card["files"][name]["measured_ms"] for precision, name in timed.items()}
        contents = {precision: files[name] for precision, name in timed.items()}
        untold: dict[str, Any] = {"fp32_ms": None, "fp32_kernels": []}  # of an FP32 file that another runtime runs
        table = op_table(graph_rows(model.graph), contents, totals, threads=cfg.device.threads)
        card["ops"] = [untold | row for row in table]
    page = readme(card, model.pair.integer.qparams[INPUT], cfg.export.float_io)
    atomic_write(model.folder / "README.md", page)
    beside = ("model.safetensors", "parity.json", "README.md", MISTAKES)
    card["other_files"] = {name: content_claims((model.folder / name).read_bytes()) for name in beside}
    card = sealed(card)
    write_card(model.folder / "card.json", card)
    return card


def words(step: str, card: Mapping[str, Any], more: str = "") -> str:
    """A card in one line; ``more``: of how it was trained."""
    classes, timed = card["classes"], "not measured"
    none = [card["labels"][i] for i in unseen(classes)]
    by_class = f", {classes['balanced']:.2f} % the mean of the classes"
    by_class += f", none of {', '.join(none[:5])}{' and others' if len(none) > 5 else ''} recognized" if none else ""
    if card["measured_ms"] is not None:
        timed = f"measured {card['measured_ms']:.4g} ms in {card['runtime']}, {card['cold_ms']:.4g} ms out of cold caches"
    for name, files in card.get(OTHERS, {}).items():
        told = files["model.onnx"]
        timed += (
            f"; model.onnx in {name} {told['top1']:.2f} %, {told['agreement_reference']:.2f} % of the reference's labels, "
            f"{told['max_difference']:.0f} output steps at most from the trained model's"
        )
    return (
        f"{step}: {card['name']}: test top-1 {card['top1_runtime']:.2f} % in the runtime{by_class}, {card['top1_fp32']:.2f} % "
        f"of the same weights in FP32 (quantization costs {card['quantization_loss']:.2f} points){more}, agreement "
        f"{card['agreement']:.2f} %, {timed}{emulated_words(card.get('emulated', []))}"
    )


def examples(by: Judges) -> bytes:
    """A picture of test images of every class, as many of each as there is room for."""
    from spaceevo.report.predictions import GRID, grid, png

    names = class_names(by.data)
    each = max(1, GRID // len(names))
    chosen = [int(i) for label in range(len(names)) for i in (by.labels == label).nonzero()[:each]]
    return png(grid([by.test[i : i + 1][0].numpy() for i in chosen], [names[int(by.labels[i])] for i in chosen]))
