"""OpenVINO reads onnxruntime's files and rounds as it likes: in integers, near the reference, told on the card."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from deploy.nets import QUANTIZER, demo_subnet, small_stage, smooth_images, trained_net

from spaceevo.app.config import compose
from spaceevo.app.run import execute
from spaceevo.deploy import export
from spaceevo.deploy.claims.gate import parity_report
from spaceevo.deploy.claims.itself import twice
from spaceevo.deploy.claims.parity import label_agreement
from spaceevo.deploy.claims.ran import in_runtime, ran
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.inputs import Shown
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.runtimes import ort
from spaceevo.deploy.runtimes.registry import RUNTIMES, measure_files, open_file
from spaceevo.errors import UserError
from spaceevo.latency.machines.machine import HERE
from spaceevo.latency.runtimes.call import random_image
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS

pytest.importorskip("openvino")
from spaceevo.latency.runtimes import ov

BY = RUNTIMES["openvino"]
SOME = [("conv", "relu"), ("mbv2_k3", "hswish"), ("residual_bottleneck_se", "swish")]
#: Output steps that the integers of three blocks may be from the reference's on average: of all block types and activations the
#: furthest are 1.4 (and at most 16), on a grid where the outputs' standard deviation is 22 to 63.
FAR = 2


@pytest.fixture(scope="module")
def pair() -> tuple[export.ModelPair, Shown]:
    """A subnet of several block types as files for OpenVINO, with images."""
    graph = demo_subnet("0120")
    net, _ = trained_net(graph, quantizer=QUANTIZER)
    images = smooth_images(64, graph, seed=5)
    made = export.int8_and_fp32(net, graph, images, QUANTIZER, export.Form(dynamic_batch=True), "openvino")
    return made, Shown(images, images.numpy())


@pytest.mark.parametrize(
    ("kind", "act"),
    [*SOME, *(pytest.param(*one, marks=pytest.mark.slow) for one in product(BLOCK_TYPES, ACTIVATIONS) if one not in SOME)],
)
def test_convolutions_run_as_integers_near_the_reference(kind: str, act: str) -> None:
    graph = small_stage(kind, act)
    net, stats = trained_net(graph, quantizer=QUANTIZER)
    model, images = integer_model(net, graph, stats, QUANTIZER), smooth_images(16, graph, seed=1).numpy()
    running = ov.load(write_int8(model, batch=None))
    convolutions = [kind for layer, kind in ov.executed(running) if layer == "Convolution"]
    assert len(convolutions) == sum(op.has_weight for op in graph.ops) and set(convolutions) == {"u8"}
    steps = np.abs(ov.run_batches(running, images) - run_integer(model, images)) / model.output_qparams[0]
    assert steps.mean() < FAR
    assert np.abs(steps - steps.round()).max() < 1e-3  # its integers are on the same grid


def test_a_whole_model_gives_the_reference_s_labels_whatever_the_batch(pair: tuple[export.ModelPair, Shown]) -> None:
    made, images = pair
    some, reference = images.fed[:], run_integer(made.integer, images.normalized.numpy())
    given = [ov.run_batches(ov.load(made.files["model.onnx"]), some, batch) for batch in (64, 5)]
    given.append(ov.run_batches(ov.load(write_int8(made.integer)), some))  # a file of one image at a time
    for logits in given:
        np.testing.assert_array_equal(logits, given[0])
    assert label_agreement(reference, given[0]) >= 90


def test_floats_stay_float32(pair: tuple[export.ModelPair, Shown]) -> None:
    """Where the CPU has bfloat16, OpenVINO would take that."""
    made, images = pair
    running, some = ov.load(made.files["fp32.onnx"]), images.fed[:16]
    assert "bf16" not in {kind for _, kind in ov.executed(running)}
    np.testing.assert_allclose(
        ov.run_batches(running, some), ort.run_batches(ort.session(made.files["fp32.onnx"]), some), rtol=1e-4, atol=1e-4
    )


def test_a_timed_call_gives_the_output_of_its_image(pair: tuple[export.ModelPair, Shown]) -> None:
    made, _ = pair
    for content in made.files["model.onnx"], write_int8(made.integer):
        running, x = ov.load(content), made.integer.graph.input
        image = random_image((1, x.channels, x.hw, x.hw), pixels=False)
        np.testing.assert_array_equal(ov.timed_call(running)(), ov.run_batches(running, image))


def test_what_is_no_model_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match=r"x/model\.onnx: truncated or not a model that openvino can read") as told:
        open_file(Path("x/model.onnx"), b"no model", runtime=BY)
    assert "\n" not in str(told.value)


def test_its_figures_are_the_card_s_and_the_gate_goes_by_labels(pair: tuple[export.ModelPair, Shown]) -> None:
    made, images = pair
    checks = export.check(made, images, torch.arange(len(images.fed[:])) % 10)
    assert all(checks["files"][name]["identical_integers"] == 100 for name in ("model.onnx", "model.tflite"))
    told = in_runtime(checks, BY)
    assert set(told) == {"model.onnx", "fp32.onnx"} and "agreement" not in told["fp32.onnx"]
    assert (
        checks["top1_runtime"] == told["model.onnx"]["top1"]
        and checks["max_difference"] == told["model.onnx"]["max_difference"]
    )
    assert [one.words for one in ran(checks)][-2:] == ["model.onnx in openvino", "fp32.onnx in openvino"]
    assert twice(checks | {"runtime": "openvino"})["agreement"] == "other_runtimes/openvino/model.onnx/agreement"
    far = {"openvino": {"model.onnx": told["model.onnx"] | dict(agreement=90.0, mean_difference=9.0), "fp32.onnx": {}}}
    ops = export.judged_ops(made, images, 8)
    report = parity_report(checks["files"], ops, 8, 89.0, math.inf, far)
    assert report["refused"] == [] and report["other_runtimes"]["openvino"]["model.onnx"]["mean_difference"] == 9
    (why,) = parity_report(checks["files"], ops, 8, 91.0, math.inf, far)["refused"]
    assert why.startswith("model.onnx in openvino agrees with the trained model on 90.00 %")


def test_a_file_is_measured_in_each_runtime_that_reads_it(pair: tuple[export.ModelPair, Shown]) -> None:
    made, _ = pair
    times = measure_files(made.files, HERE, list(RUNTIMES.values()), 1, 2, 1, 0.0)
    assert {name: set(taken) for name, taken in times.items()} == {
        "onnxruntime": {"model.onnx", "fp32.onnx"}, "litert": {"model.tflite"}, "openvino": {"model.onnx", "fp32.onnx"}
    }  # fmt: skip
    assert all((ms > 0).all() for taken in times.values() for ms in taken.values())


def test_a_hyperspace_is_profiled_in_it(tmp_path: Path) -> None:
    cfg = compose("profile", [*TINY, f"run_dir={tmp_path}", "runtime=openvino", "profile={blocks:3,subnets:2,rounds:1,runs:2}"])
    assert execute("profile", cfg)
    assert (pd.read_parquet(tmp_path / "latency/kernels.parquet").ms > 0).all()
    told = json.loads((tmp_path / "latency/host.json").read_text())
    assert told["runtime"] == "openvino" and told["versions"]["openvino"]
