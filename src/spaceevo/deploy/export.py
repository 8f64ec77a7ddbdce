"""From a trained subnet to checked model files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spaceevo.deploy.claims.by_class import by_class
from spaceevo.deploy.claims.gate import COMPARED, OTHERS, compare, digest, judge_ops
from spaceevo.deploy.claims.parity import agreement, float_convolutions, label_agreement, same_integers
from spaceevo.deploy.claims.ran import in_runtime
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.files.tflite_float import write_float_tflite
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.inputs import AtSize, Shown
from spaceevo.deploy.integer.fold import float_model, integer_model
from spaceevo.deploy.integer.model import FloatModel, IntegerModel
from spaceevo.deploy.integer.reference import Arrays, run_integer
from spaceevo.deploy.integer.trained import Trained
from spaceevo.deploy.ptq import post_training_quantized
from spaceevo.deploy.runtimes.ort import integer_op_report
from spaceevo.deploy.runtimes.registry import Runtime, open_file, outputs, owner, runtime_called, runtimes_for
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import calibrate, resized, top1
from spaceevo.space import Graph


@dataclass(frozen=True)
class ModelPair:
    """The INT8 files (ONNX and TFLite) and the FP32 file of the same weights, by their names in the model's folder;
    ``runtime``: whose latency is the model's, and which runs the FP32 file; and what they are judged by: the ``trained``
    fake-quant model; ``integer`` and ``real``: what the INT8 files and the FP32 file were written from."""

    files: Mapping[str, bytes]
    runtime: Runtime
    trained: Trained
    integer: IntegerModel
    real: FloatModel


@dataclass(frozen=True)
class Form:
    """How files are written: what they take (``given``; None: normalized floats, of which their metadata say nothing), and
    whether they give ``probabilities`` too; the classes' names; ``dynamic_batch``: the ONNX files take any number of images
    (TFLite's interpreter resizes anyway); ``float_io``: the TFLite file gives float32, and takes it if it takes no pixels."""

    given: FileInput | None = None
    probabilities: bool = False
    labels: Sequence[str] = ()
    dynamic_batch: bool = False
    float_io: bool = False


def int8_and_fp32(
    net: Elastic, graph: Graph, calibration: Tensor, quantizer: Quantizer, form: Form = Form(), runtime: str = "onnxruntime"
) -> ModelPair:
    """``graph`` in the trained ``net`` (a supernet, or a network of its own) in INT8, and the same weights in FP32 for
    ``runtime``; each with its own BatchNorm statistics, recalibrated on ``calibration`` ``[N, C, H, W]``, normalized."""
    trained, unquantized = (recalibrated(net, graph, calibration, scheme) for scheme in (quantizer, None))
    integer = integer_model(net, graph, trained.stats, quantizer)
    real = float_model(net, graph, unquantized.stats)
    batch, given, softmax = None if form.dynamic_batch else 1, form.given, form.probabilities
    run_by = runtime_called(runtime)
    if run_by.name == "litert":
        fp32 = write_float_tflite(real, form.labels, given, softmax)
    else:
        fp32 = write_fp32(real, batch, form.labels, given, softmax)
    files = {
        "model.onnx": write_int8(integer, batch, form.labels, given, softmax),
        "model.tflite": write_tflite(integer, form.float_io, form.labels, given=given, probabilities=softmax),
        run_by.fp32: fp32,
    }
    return ModelPair(files, run_by, trained, integer, real)


def recalibrated(net: Elastic, graph: Graph, calibration: Tensor, quantizer: Quantizer | None) -> Trained:
    """``graph`` in ``net`` with the statistics of ``calibration`` ``[N, C, H, W]``, with or without quantization."""
    return Trained(net, graph, calibrate(net, graph, resized(calibration, graph.input.hw), quantizer), quantizer)


def judged_ops(pair: ModelPair, images: Shown, count: int) -> dict[str, list[dict[str, Any]]]:
    """:func:`spaceevo.deploy.claims.gate.judge_ops` of every INT8 file over the first ``count`` ``images``."""
    seen, fed = AtSize(images.normalized, pair.trained.graph.input.hw)[:count], images.fed[:count]
    names = [op.name for op in pair.integer.graph.ops]
    files = {name: content for name, content in pair.files.items() if name != pair.runtime.fp32}
    return {name: judge_ops(pair.trained, owner(name).inspect(content, names, fed), seen) for name, content in files.items()}


def check(pair: ModelPair, images: Shown, labels: Tensor) -> dict[str, Any]:
    """The trained model, the integer reference and every file over ``images``: top-1 and agreement in percent, differences in
    output steps.

    ``quantization_loss``: percentage points of top-1 that quantization alone costs, of the same weights. ``files`` has of
    each file what another machine can repeat: top-1 and the outputs' sha256; of the INT8 ones also the agreement with the
    trained model and the reference, and how many of the output's integers are the reference's; ``other_runtimes``, where there
    are any, has the same of those that read another's files. ``classes``: what the reference's top-1 consists of.
    """
    fake = pair.trained.logits(images.normalized)
    reference = run_integer(pair.integer, AtSize(images.normalized, pair.trained.graph.input.hw))
    step, _ = pair.trained.qparams()[pair.trained.graph.output.name]

    def told(name: str, runtime: Runtime) -> dict[str, Any]:
        given, fp32 = outputs(open_file(Path(name), pair.files[name], runtime=runtime), images.fed), name == pair.runtime.fp32
        claims = dict(
            precision="fp32" if fp32 else "int8",
            top1=agreement(given.argmax(1), labels.numpy()),
            outputs_sha256=digest(given),
        )
        if fp32:
            return claims
        near = dict(agreement_reference=label_agreement(reference, given), identical_integers=same_integers(given, reference))
        return claims | compare(given, fake.numpy(), step) | near

    checks: dict[str, Any] = {"files": {n: dict(runtime=owner(n).name) | told(n, owner(n)) for n in pair.files}}
    others = [by for by in runtimes_for(pair.runtime) if not by.owns]
    if others:
        checks[OTHERS] = {by.name: {name: told(name, by) for name in pair.files if by.reads(name)} for by in others}
    files = in_runtime(checks, pair.runtime)
    int8, fp32 = files[pair.runtime.int8], files[pair.runtime.fp32]
    return dict(
        top1_fake_quant=top1(fake, labels),
        top1_reference=agreement(reference.argmax(1), labels.numpy()),
        top1_runtime=int8["top1"],
        top1_fp32=fp32["top1"],
        quantization_loss=fp32["top1"] - int8["top1"],
        **{key: int8[key] for key in COMPARED},
        float_convolutions=float_convolutions(integer_op_report(pair.files["model.onnx"])),
        classes=by_class(reference, labels),
        **checks,
    )


def baseline(
    real: FloatModel, calibration: Arrays, method: str, quantizer: Quantizer, images: Arrays, labels: Tensor
) -> tuple[bytes, dict[str, Any]]:
    """The model in full precision quantized after training, on normalized ``calibration`` ``[N, C, R, R]``, which it takes too,
    and its top-1 (percent) on ``images`` of the same form."""
    content = post_training_quantized(write_fp32(real), calibration, method, quantizer)
    return content, dict(
        calibrate=method,
        images=len(calibration),
        top1=agreement(outputs(open_file(Path("ptq.onnx"), content), images).argmax(1), labels.numpy()),
        bytes=len(content),
        float_convolutions=float_convolutions(integer_op_report(content)),
    )
