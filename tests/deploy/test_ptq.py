"""Post-training quantization by onnxruntime: the file runs as integers, near the FP32 one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from spaceevo.deploy.claims.parity import agreement, float_convolutions, integer_op_report, run_batches, session
from spaceevo.deploy.files.onnx_writer import write_fp32
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.deploy.ptq import METHODS, post_training_quantized
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph


@pytest.fixture(scope="module")
def fp32() -> bytes:
    space = SearchSpace.parse("tiny-0120-1111", load_hyperspace("tiny").with_task(channels=1, classes=10))
    graph = subnet_graph(Subnet.smallest(space))
    return write_fp32(random_models(graph, np.random.default_rng(0), Quantizer())[1])


@pytest.fixture(scope="module")
def images(fp32: bytes) -> np.ndarray:
    shape = session(fp32).get_inputs()[0].shape[1:]
    return np.random.default_rng(1).random((40, *shape), dtype=np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_it_runs_as_integers_near_the_float_model(
    method: str, fp32: bytes, images: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    file = post_training_quantized(fp32, images, method, Quantizer())
    assert float_convolutions(integer_op_report(file)) == 0
    real, quantized = run_batches(session(fp32), images), run_batches(session(file, exact=True), images)
    assert np.abs(real - quantized).mean() < 0.35 * real.std()
    assert agreement(real.argmax(1), quantized.argmax(1)) > 60  # of random weights, which hardly tell images apart
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_the_bits_and_a_scale_a_channel(bits: int, fp32: bytes, images: np.ndarray) -> None:
    proto = onnx.load_from_string(post_training_quantized(fp32, images, "minmax", Quantizer(bits)))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim == 4]
    assert weights
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 2 ** (bits - 1)
    scales = [arrays[name] for name in arrays if name.endswith("weight_scale")]
    assert any(scale.size > 1 for scale in scales)
