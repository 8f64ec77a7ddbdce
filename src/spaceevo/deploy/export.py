"""From a trained subnet to checked model files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spaceevo.deploy import litert
from spaceevo.deploy.fold import adopt_scales, float_model, integer_model
from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.ort import integer_op_report, run_batches, session
from spaceevo.deploy.parity import agreement, float_convolutions, label_agreement, same_integers
from spaceevo.deploy.reference import run_integer
from spaceevo.deploy.tflite_writer import write_tflite
from spaceevo.nn.elastic import Elastic, Quantizer, Stats, resize
from spaceevo.nn.evaluate import calibrate, logits, resized, top1
from spaceevo.nn.extract import Extracted
from spaceevo.space import Graph, Subnet, subnet_graph


@dataclass(frozen=True)
class ModelPair:
    """The INT8 files (ONNX and TFLite) and the FP32 file (ONNX) of one subnet, and what the INT8 ones were made from:
    ``net``, the extracted subnet with the scales of the model ``integer``."""

    int8: bytes
    tflite: bytes
    fp32: bytes
    net: Elastic
    graph: Graph
    stats: Stats
    quantizer: Quantizer
    integer: IntegerModel


def int8_and_fp32(
    net: Elastic,
    pretrained: Elastic,
    subnet: Subnet,
    calibration: Tensor,
    quantizer: Quantizer,
    labels: Sequence[str] = (),
    dynamic_batch: bool = False,
    float_io: bool = False,
) -> ModelPair:
    """INT8 from the QAT supernet ``net``, FP32 from the ``pretrained`` one, each with its own BatchNorm statistics
    recalibrated on ``calibration`` ``[N, C, H, W]``. All take one normalized image.

    ``labels``: the classes' names. ``dynamic_batch``: the ONNX files take any number of images (TFLite's interpreter
    resizes anyway). ``float_io``: the TFLite file takes and gives float32.
    """
    graph = subnet_graph(subnet)
    stats = calibrate(net, graph, resized(calibration, graph.input.hw), quantizer)
    float_stats = calibrate(pretrained, graph, resized(calibration, graph.input.hw))
    integer = integer_model(net, graph, stats, quantizer)
    extracted = Extracted(net, graph, stats, quantizer).net.to(memory_format=torch.channels_last)
    adopt_scales(extracted, integer)
    batch = None if dynamic_batch else 1
    int8, tflite = write_int8(integer, batch, labels), write_tflite(integer, float_io, labels)
    fp32 = write_fp32(float_model(pretrained, graph, float_stats), batch)
    return ModelPair(int8, tflite, fp32, extracted, graph, stats, quantizer, integer)


def check(pair: ModelPair, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Over ``images``, in percent: top-1 of the fake-quant model, the integer reference and each file, label agreement,
    and per runtime how many of the output's integers are the reference's. ``agreement``: onnxruntime's with fake quant."""
    hw, truth = pair.graph.input.hw, labels.numpy()
    fake = logits(pair.net, pair.graph, pair.stats, images, pair.quantizer)
    small = np.ascontiguousarray(np.concatenate([resize(x, hw).numpy() for x in images.split(1000)]))
    reference = run_integer(pair.integer, small)
    outputs = {
        "onnxruntime": run_batches(session(pair.int8), small),
        "litert": litert.run_batches(litert.interpreter(pair.tflite), small),
    }
    real = run_batches(session(pair.fp32), small)
    runtimes = {
        name: dict(
            top1=agreement(y.argmax(1), truth),
            agreement_fake_quant=label_agreement(fake.numpy(), y),
            agreement_reference=label_agreement(reference, y),
            identical_integers=same_integers(y, reference),
        )
        for name, y in outputs.items()
    }
    return dict(
        top1_fake_quant=top1(fake, labels),
        top1_reference=agreement(reference.argmax(1), truth),
        top1_runtime=runtimes["onnxruntime"]["top1"],
        top1_fp32=agreement(real.argmax(1), truth),
        agreement=runtimes["onnxruntime"]["agreement_fake_quant"],
        runtimes=runtimes,
        float_convolutions=float_convolutions(integer_op_report(pair.int8)),
    )
