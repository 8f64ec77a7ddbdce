"""FP32 TFLite files: the same numbers as the FP32 ONNX file of the same model."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from deploy.nets import demo_subnet, small_stage

from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_writer import write_fp32
from spaceevo.deploy.files.tflite_float import write_float_tflite
from spaceevo.deploy.files.tflite_writer import read_labels
from spaceevo.deploy.integer.random_model import random_models
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Graph
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS, PADDINGS, GraphBuilder


def check(graph: Graph, padding: str, x: np.ndarray, given: FileInput | None = None) -> None:
    _, real = random_models(graph, np.random.default_rng(1), Quantizer(), padding)
    expected = ort.run_batches(ort.session(write_fp32(real, None, given=given)), x)
    found = litert.run_batches(litert.interpreter(write_float_tflite(real, given=given)), x)
    assert found.shape == expected.shape and expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


def noise(graph: Graph, count: int = 3) -> np.ndarray:
    x = graph.input
    return np.random.default_rng(0).standard_normal((count, x.channels, x.hw, x.hw)).astype(np.float32)


@pytest.mark.parametrize(("kind", "act"), product(BLOCK_TYPES, ACTIVATIONS))
def test_every_block_type_and_activation_is_what_onnxruntime_computes(kind: str, act: str) -> None:
    for stride, padding in product((1, 2), PADDINGS):
        graph = small_stage(kind, act, stride)
        check(graph, padding, noise(graph))


def test_whole_subnets_and_a_pool_are_too() -> None:
    graph = demo_subnet("2046")
    check(graph, "symmetric", noise(graph))
    g = GraphBuilder(3, 20)
    x = g.maxpool("pool", g.conv("conv", g.x, 8, kernel=3, stride=2, act="relu"), kernel=3, stride=2)
    g.conv("classifier", g.mean("mean", x), 5, norm=False)
    check(g.graph, "symmetric", noise(g.graph))


def test_pixels_are_normalized_within_the_file() -> None:
    g = GraphBuilder(3, 12)
    g.conv("classifier", g.mean("mean", g.conv("conv", g.x, 8, kernel=3, act="relu6")), 5, norm=False)
    given = FileInput("pixels", 3, 12, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 12, 12), np.uint8)
    check(g.graph, "same", pixels, given)


def test_labels_are_in_the_file() -> None:
    _, real = random_models(demo_subnet("2046"), np.random.default_rng(0), Quantizer())
    assert read_labels(write_float_tflite(real, labels=["cat", "dog"])) == ["cat", "dog"]
