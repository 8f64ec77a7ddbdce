"""From a trained subnet to checked model files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spaceevo.deploy.fold import float_model, integer_model
from spaceevo.deploy.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.parity import agreement, float_convolutions, integer_op_report, run_batches, session
from spaceevo.nn.elastic import Elastic, Quantizer, Stats, resize
from spaceevo.nn.evaluate import calibrate, logits, resized, top1
from spaceevo.space import Graph, Subnet, subnet_graph


@dataclass(frozen=True)
class ModelPair:
    """The INT8 and the FP32 file of one subnet, and what the INT8 one was made from."""

    int8: bytes
    fp32: bytes
    net: Elastic
    graph: Graph
    stats: Stats
    quantizer: Quantizer


def int8_and_fp32(net: Elastic, pretrained: Elastic, subnet: Subnet, calibration: Tensor, quantizer: Quantizer) -> ModelPair:
    """INT8 from the QAT supernet ``net``, FP32 from the ``pretrained`` one, each with its own BatchNorm statistics
    recalibrated on ``calibration`` ``[N, C, H, W]``. Both take ``[1, C, R, R]`` normalized images."""
    graph = subnet_graph(subnet)
    stats = calibrate(net, graph, resized(calibration, graph.input.hw), quantizer)
    float_stats = calibrate(pretrained, graph, resized(calibration, graph.input.hw))
    int8 = write_int8(integer_model(net, graph, stats, quantizer))
    return ModelPair(int8, write_fp32(float_model(pretrained, graph, float_stats)), net, graph, stats, quantizer)


def check(pair: ModelPair, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Top-1 of the fake-quant model and of both files in onnxruntime, and label agreement, in percent, over ``images``."""
    hw = pair.graph.input.hw
    fake = logits(pair.net, pair.graph, pair.stats, images, pair.quantizer)
    small = np.ascontiguousarray(np.concatenate([resize(x, hw).numpy() for x in images.split(1000)]))
    runtime = run_batches(session(pair.int8), small)
    real = run_batches(session(pair.fp32), small)
    truth = labels.numpy()
    return dict(
        top1_fake_quant=top1(fake, labels),
        top1_runtime=agreement(runtime.argmax(1), truth),
        top1_fp32=agreement(real.argmax(1), truth),
        agreement=agreement(runtime.argmax(1), fake.argmax(1).numpy()),
        float_convolutions=float_convolutions(integer_op_report(pair.int8)),
    )
