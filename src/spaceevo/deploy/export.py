"""From a trained subnet to checked model files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spaceevo.deploy.claims.gate import COMPARED, compare, digest, judge_ops
from spaceevo.deploy.claims.parity import agreement, float_convolutions, label_agreement, same_integers
from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.fold import float_model, integer_model
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import Arrays, run_integer
from spaceevo.deploy.integer.trained import Trained
from spaceevo.deploy.ptq import post_training_quantized
from spaceevo.deploy.runtimes.ort import integer_op_report
from spaceevo.deploy.runtimes.registry import RUNTIMES, open_file, outputs
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.nn.evaluate import ImageSource, calibrate, resized, top1
from spaceevo.space import Graph


@dataclass(frozen=True)
class ModelPair:
    """The INT8 files (ONNX and TFLite) and the FP32 file (ONNX) of the same weights, and what they are judged by: the
    ``trained`` fake-quant model; ``integer``: what the INT8 files were written from."""

    int8: bytes
    tflite: bytes
    fp32: bytes
    trained: Trained
    integer: IntegerModel

    @property
    def files(self) -> dict[str, bytes]:
        """The files of a model's folder: a runtime is chosen by the ending."""
        return {"model.onnx": self.int8, "model.tflite": self.tflite, "fp32.onnx": self.fp32}


def int8_and_fp32(
    net: Elastic,
    graph: Graph,
    calibration: Tensor,
    quantizer: Quantizer,
    labels: Sequence[str] = (),
    dynamic_batch: bool = False,
    float_io: bool = False,
) -> ModelPair:
    """``graph`` in the trained ``net`` (a supernet, or a network of its own) in INT8, and the same weights in FP32; each with
    its own BatchNorm statistics, recalibrated on ``calibration`` ``[N, C, H, W]``. All files take one normalized image.

    ``labels``: the classes' names. ``dynamic_batch``: the ONNX files take any number of images (TFLite's interpreter
    resizes anyway). ``float_io``: the TFLite file takes and gives float32.
    """
    trained, unquantized = (recalibrated(net, graph, calibration, scheme) for scheme in (quantizer, None))
    integer = integer_model(net, graph, trained.stats, quantizer)
    batch = None if dynamic_batch else 1
    return ModelPair(
        int8=write_int8(integer, batch, labels),
        tflite=write_tflite(integer, float_io, labels),
        fp32=write_fp32(float_model(net, graph, unquantized.stats), batch),
        trained=trained,
        integer=integer,
    )


def recalibrated(net: Elastic, graph: Graph, calibration: Tensor, quantizer: Quantizer | None) -> Trained:
    """``graph`` in ``net`` with the statistics of ``calibration`` ``[N, C, H, W]``, with or without quantization."""
    return Trained(net, graph, calibrate(net, graph, resized(calibration, graph.input.hw), quantizer), quantizer)


def judged_ops(pair: ModelPair, images: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """:func:`spaceevo.deploy.claims.gate.judge_ops` of every INT8 file over ``images`` ``[N, C, R, R]``."""
    names = [op.name for op in pair.integer.graph.ops]
    files = {name: content for name, content in pair.files.items() if name != "fp32.onnx"}
    return {
        name: judge_ops(pair.trained, RUNTIMES[Path(name).suffix].inspect(content, names, images), images)
        for name, content in files.items()
    }


def check(pair: ModelPair, images: ImageSource, labels: Tensor) -> dict[str, Any]:
    """The trained model, the integer reference and every file over ``images``: top-1 and agreement in percent, differences in
    output steps.

    ``quantization_loss``: percentage points of top-1 that quantization alone costs, of the same weights. ``files`` has of
    each file what another machine can repeat: top-1 and the outputs' sha256; of the INT8 ones also the agreement with the
    trained model and the reference, and how many of the output's integers are the reference's.
    """
    small = AtSize(images, pair.trained.graph.input.hw)
    fake = pair.trained.logits(images)
    reference = run_integer(pair.integer, small)
    step, _ = pair.trained.qparams()[pair.trained.graph.output.name]
    files: dict[str, dict[str, Any]] = {}
    for name, content in pair.files.items():
        given = outputs(open_file(Path(name), content), small)
        files[name] = dict(
            runtime=RUNTIMES[Path(name).suffix].name,
            precision="fp32" if name == "fp32.onnx" else "int8",
            top1=agreement(given.argmax(1), labels.numpy()),
            outputs_sha256=digest(given),
        )
        if name != "fp32.onnx":
            files[name] |= dict(
                **compare(given, fake.numpy(), step),
                agreement_reference=label_agreement(reference, given),
                identical_integers=same_integers(given, reference),
            )
    int8 = files["model.onnx"]
    return dict(
        top1_fake_quant=top1(fake, labels),
        top1_reference=agreement(reference.argmax(1), labels.numpy()),
        top1_runtime=int8["top1"],
        top1_fp32=files["fp32.onnx"]["top1"],
        quantization_loss=files["fp32.onnx"]["top1"] - int8["top1"],
        **{key: int8[key] for key in COMPARED},
        float_convolutions=float_convolutions(integer_op_report(pair.int8)),
        files=files,
    )


def baseline(
    fp32: bytes, calibration: Arrays, method: str, weight_bits: int, images: Arrays, labels: Tensor
) -> tuple[bytes, dict[str, Any]]:
    """The FP32 file quantized after training, on ``calibration`` ``[N, C, R, R]``, and its top-1 (percent) on ``images``."""
    content = post_training_quantized(fp32, calibration, method, weight_bits)
    return content, dict(
        calibrate=method,
        images=len(calibration),
        top1=agreement(outputs(open_file(Path("ptq.onnx"), content), images).argmax(1), labels.numpy()),
        bytes=len(content),
        float_convolutions=float_convolutions(integer_op_report(content)),
    )


@dataclass(frozen=True)
class AtSize:
    """Normalized ``images`` as a runtime takes them: slices are float32 ``[n, C, hw, hw]``, row by row in memory."""

    images: ImageSource
    hw: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice) -> np.ndarray:
        return np.ascontiguousarray(resize(self.images[which], self.hw).numpy())
