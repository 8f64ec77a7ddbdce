"""``python -m spaceevo.quantize``: what post-training quantization makes of a classifier of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spaceevo.data.config import DataConfig
from spaceevo.deploy.config import CALIBRATE
from spaceevo.errors import UserError
from spaceevo.settings import COUNT, IMAGES, PIXELS, SECONDS, SEED, THREADS, setting, typed
from spaceevo.space.graph import SCHEMES
from spaceevo.steps.folder import say
from spaceevo.steps.step import Command

if TYPE_CHECKING:
    import numpy as np


@dataclass
class QuantizeConfig:
    """``python -m spaceevo.quantize``."""

    model: str = setting("a classifier of torchvision by name, e.g. mobilenet_v2")
    weights: str | None = setting("a file of its state dict; null: random weights")
    calibrate: str = setting("how onnxruntime's quantizer finds the activations' ranges", choices=CALIBRATE)
    activations: str = setting("how they are held: uint8 with zero points, or int8 with zero point 0", choices=SCHEMES)
    calibration_images: int = setting("training images for that", least=1, most=IMAGES)
    resolution: int | None = setting("of the images, pixels of a side; null: the data's own", least=1, most=PIXELS)
    out_dir: str = setting("where the files and the card go")
    seed: int = setting("of random weights", least=0, most=SEED)
    threads: int = setting("CPU threads of onnxruntime", least=1, most=THREADS)
    rounds: int = setting("of timed calls, every file in each", least=1, most=COUNT)
    runs: int = setting("calls of a file a round", least=1, most=COUNT)
    spread_s: float = setting("over how many seconds the rounds are spread", least=0, most=SECONDS)
    debug: bool = setting("show the Python traceback of an error")
    data: DataConfig = field(default_factory=DataConfig)


def read(cfg: DictConfig) -> QuantizeConfig:
    """The composed config, checked.

    Raises:
        UserError: an impossible value, with its key.
    """
    if OmegaConf.is_missing(cfg, "model"):
        raise UserError("model: has no value; give a classifier of torchvision, e.g. model=mobilenet_v2")
    config = typed(QuantizeConfig, cfg)
    if config.data.name == "folder":
        from spaceevo.data.folder import settled

        config.data = settled(config.data)
    return config


def run(cfg: QuantizeConfig) -> None:
    """``fp32.onnx``, ``model.onnx`` (INT8 by onnxruntime's quantizer) and a card that ``spaceevo.verify`` reads.

    Raises:
        UserError: no such model, weights that are not its own, or images it does not take.
    """
    from spaceevo.atomic import atomic_write
    from spaceevo.data import Normalized, load_data
    from spaceevo.deploy.claims.card import card_text, file_claims, sealed
    from spaceevo.deploy.inputs import AtSize
    from spaceevo.deploy.ptq import post_training_quantized
    from spaceevo.deploy.runtimes.registry import ONNXRUNTIME, measure_cold, measure_files, open_file, outputs
    from spaceevo.deploy.torchvision_model import classifier, to_onnx
    from spaceevo.latency import host
    from spaceevo.latency.machines.machine import HERE
    from spaceevo.nn.scheme import Quantizer

    size, quantizer = cfg.resolution or cfg.data.image_size, Quantizer(host.weight_bits("auto"), cfg.activations)
    net = classifier(cfg.model, cfg.data.classes, cfg.data.channels, cfg.weights, cfg.seed)
    fp32 = to_onnx(net, (cfg.data.channels, size, size))
    images = load_data(cfg.data, test=True)
    assert images.test is not None and images.test_labels is not None
    calibration = AtSize(Normalized(images.train, cfg.data, cfg.calibration_images), size)
    test, labels = AtSize(Normalized(images.test, cfg.data), size), images.test_labels.numpy()
    say(f"quantize: {cfg.model}, {'random weights' if cfg.weights is None else cfg.weights}, {len(test)} test images")
    files = {"model.onnx": post_training_quantized(fp32, calibration, cfg.calibrate, quantizer), "fp32.onnx": fp32}
    given = {name: outputs(open_file(Path(name), content, cfg.threads), test) for name, content in files.items()}
    times = measure_files(files, HERE, [ONNXRUNTIME], cfg.rounds, cfg.runs, cfg.threads, cfg.spread_s)["onnxruntime"]
    cold = measure_cold(files, HERE, [ONNXRUNTIME], cfg.threads)["onnxruntime"]
    claims = {
        name: _claims(name, logits, labels) | file_claims(files[name], times[name], cold[name])
        for name, logits in given.items()
    }
    card = _asked(cfg, len(calibration), len(test)) | dict(files=claims) | _compared(cfg, files, claims, given, times)
    folder = Path(cfg.out_dir)
    for name, content in files.items():
        atomic_write(folder / name, content)
    atomic_write(folder / "card.json", card_text(sealed(card)))
    say(
        f"quantize: test top-1 {card['top1_runtime']:.2f} % in INT8 ({cfg.calibrate}), {card['top1_fp32']:.2f} % in FP32, "
        f"the same label for {card['agreement_fp32']:.2f} %; {card['measured_ms']:.4g} ms, {card['speedup']:.2f} times "
        "the speed of FP32"
    )
    say(f"quantize: {folder / 'card.json'}")


def _compared(
    cfg: QuantizeConfig,
    files: Mapping[str, bytes],
    claims: Mapping[str, dict[str, Any]],
    given: Mapping[str, np.ndarray],
    times: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """What a card says of the INT8 file beside the FP32 one: accuracy, latency, and that of every op. ``given``: their logits;
    ``times``: of their calls, ms."""
    import numpy as np
    import onnx

    from spaceevo.deploy.claims.parity import agreement, float_convolutions, integer_op_report
    from spaceevo.deploy.runtimes.op_latency import node_rows, op_table
    from spaceevo.latency.measure import latency

    int8, fp32 = given["model.onnx"], given["fp32.onnx"]
    ms = {"int8": latency(times["model.onnx"]), "fp32": latency(times["fp32.onnx"])}
    by_precision = dict(int8=files["model.onnx"], fp32=files["fp32.onnx"])
    rows = node_rows(onnx.load_from_string(files["fp32.onnx"]))
    return dict(
        top1_runtime=claims["model.onnx"]["top1"],
        top1_fp32=claims["fp32.onnx"]["top1"],
        agreement_fp32=agreement(int8.argmax(1), fp32.argmax(1)),
        mean_difference_fp32=float(np.abs(int8 - fp32).mean() / fp32.std()),
        float_convolutions=float_convolutions(integer_op_report(files["model.onnx"])),
        measured_ms=ms["int8"],
        fp32_ms=ms["fp32"],
        speedup=ms["fp32"] / ms["int8"],
        ops=op_table(rows, by_precision, ms, threads=cfg.threads),
    )


def _claims(name: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What a card says of the file ``name`` that gives ``logits`` for the test images."""
    from spaceevo.deploy.claims.gate import digest
    from spaceevo.deploy.claims.parity import agreement

    return dict(
        runtime="onnxruntime",
        precision="int8" if name == "model.onnx" else "fp32",
        top1=agreement(logits.argmax(1), labels),
        outputs_sha256=digest(logits),
    )


def _asked(cfg: QuantizeConfig, calibration_images: int, test_images: int) -> dict[str, Any]:
    """What the card tells of the model, the images and the machine, before anything is measured."""
    from spaceevo.deploy.claims.card import data_claims
    from spaceevo.deploy.config import NORMALIZED
    from spaceevo.deploy.file_input import FileInput
    from spaceevo.latency import host
    from spaceevo.provenance import code_version, sha256

    size = cfg.resolution or cfg.data.image_size
    return dict(
        name=cfg.model,
        weights=None if cfg.weights is None else dict(file=cfg.weights, sha256=sha256(Path(cfg.weights))),
        calibrate=cfg.calibrate,
        calibration_images=calibration_images,
        weight_bits=host.weight_bits("auto"),
        activations=cfg.activations,
        resolution=size,
        input=FileInput.of(NORMALIZED, cfg.data, size).claims(),
        data=data_claims(cfg.data, test_images),
        timing=dict(rounds=cfg.rounds, runs=cfg.runs, threads=cfg.threads, spread_s=cfg.spread_s),
        host=host.describe(),
        versions=host.versions(),
        code_version=code_version(),
    )


COMMAND = Command(
    "quantize",
    "quantizes a classifier of torchvision after training, with accuracy and latency beside FP32",
    run,
    ("model=mobilenet_v2 data=cifar10", "model=resnet18 weights=resnet18.pth data=cifar10 calibrate=entropy"),
    config=QuantizeConfig,
    read=read,
)
