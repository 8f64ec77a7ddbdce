"""Files that take pixels: the integers of the normalized input, in every runtime, and what the files tell of their input."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from ai_edge_litert import schema_py_generated as tfl
from deploy.nets import QUANTIZER, statistics
from hypothesis import given as examples
from hypothesis import strategies as st

from spaceevo.app.ahead import check_config
from spaceevo.app.config import compose
from spaceevo.data import Normalized, input_range, load_data, normalize
from spaceevo.data.config import DataConfig
from spaceevo.deploy import export
from spaceevo.deploy.claims.gate import parity_report
from spaceevo.deploy.config import NORMALIZED, PIXELS, holds_pixels
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_writer import write_fp32, write_int8
from spaceevo.deploy.files.tflite_metadata import METADATA
from spaceevo.deploy.files.tflite_writer import read_labels, write_tflite
from spaceevo.deploy.inputs import AtSize, PixelsAt, shown
from spaceevo.deploy.integer.fold import float_model, integer_model
from spaceevo.deploy.integer.model import FloatModel, IntegerModel
from spaceevo.deploy.integer.reference import quantize, run_integer, run_op
from spaceevo.deploy.runtimes import litert, ort
from spaceevo.deploy.runtimes.registry import measure_files, open_file, runtimes_in
from spaceevo.errors import UserError
from spaceevo.latency.host import versions
from spaceevo.latency.machines.machine import HERE
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.nn.lsq import TensorQuantizer, fake_quant_activation, zero_point
from spaceevo.paths import conf_dir
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph
from spaceevo.space.graph import Graph
from spaceevo.steps import STEPS

LABELS = ["nought", "Eins ä", *"23456789"]


class Case:
    """A net on the digits, in the space's smaller resolution or theirs, with its models, and 300 test images."""

    def __init__(self, resolution: int, quantizer: Quantizer = QUANTIZER) -> None:
        self.data = compose("export", ["experiment=tiny"]).data
        space = SearchSpace.parse("tiny-0120-1111", load_hyperspace("tiny").with_task(channels=1, classes=10))
        subnet = replace(Subnet.sample(space, np.random.default_rng(0)), resolution=resolution)
        self.graph: Graph = subnet_graph(subnet)
        images = load_data(self.data, test=True)
        assert images.test is not None and images.test_labels is not None
        self.test, self.labels = images.test[:300], images.test_labels[:300]
        self.given = FileInput.of(PIXELS, self.data, resolution)
        self.seen = shown(self.test, self.data, self.given)
        torch.manual_seed(0)
        self.net = Elastic(self.graph, input_range(self.data))
        some = self.seen.normalized[:64]
        self.net.init_quantizers(some, [self.graph], self.graph, quantizer)
        stats = statistics(self.net, self.graph, some)
        self.model: IntegerModel = integer_model(self.net, self.graph, stats, quantizer)
        self.real: FloatModel = float_model(self.net, self.graph, stats)


@pytest.fixture(scope="module", params=[12, 16])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_pixel_files_give_the_integers_of_normalized_files_and_of_the_reference(case: Case) -> None:
    normalized, pixels = AtSize(case.seen.normalized, case.given.hw)[:], case.seen.fed[:]
    assert pixels.dtype == np.uint8 and pixels.shape == normalized.shape and len(np.unique(pixels)) > 100
    expected = run_integer(case.model, normalized)
    assert len(np.unique(expected)) > 20
    today = {".onnx": write_int8(case.model), ".tflite": write_tflite(case.model)}
    given = {ending: open_file(Path(f"model{ending}"), file)(normalized) for ending, file in today.items()}
    files = [
        (".onnx", write_int8(case.model, given=case.given)),
        (".onnx", write_int8(case.model, None, given=case.given, probabilities=True)),
        (".tflite", write_tflite(case.model, given=case.given)),
        (".tflite", write_tflite(case.model, float_io=True, given=case.given, probabilities=True)),
    ]
    for ending, file in files:
        found = open_file(Path(f"model{ending}"), file)(pixels)
        np.testing.assert_array_equal(found, given[ending])
        np.testing.assert_array_equal(found, expected)


def test_a_pixel_is_its_own_integer_in_litert_for_all_256() -> None:
    """The QUANTIZE op from uint8 to int8, with XNNPACK and without."""
    case = Case(16)
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    file = tfl.ModelT.InitFromPackedBuf(write_tflite(case.model, given=case.given, every_op=True), 0)
    names = [tensor.name.decode() for tensor in file.subgraphs[0].tensors]
    file.subgraphs[0].outputs = [*file.subgraphs[0].outputs, names.index("input")]
    builder = flatbuffers.Builder(0)
    builder.Finish(file.Pack(builder), b"TFL3")
    for xnnpack in (True, False):
        integers = litert.invoke(litert.interpreter(bytes(builder.Output()), xnnpack=xnnpack), every)[-1]
        assert (integers.astype(int).reshape(-1) + 128).tolist() == list(range(256))


def test_every_pixel_is_the_same_integer_everywhere_where_activations_are_symmetric() -> None:
    """int8 with zero point 0: pixels are normalized in the files, of which the reference is given normalized ones."""
    case = Case(16, Quantizer(QUANTIZER.weight_bits, "symmetric"))
    assert case.model.symmetric
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    integers = quantize(normalize(every, case.data).numpy(), case.model.qparams["input"])
    assert len(np.unique(integers)) > 150 and integers.max() >= 254
    expected = run_op(case.model, case.model.graph.op("stem"), [integers])
    for write, runtime in ((write_int8, ort), (write_tflite, litert)):
        held = runtime.inspect(write(case.model, given=case.given), ["stem"], every.numpy())
        assert held.qparams["input"] == pytest.approx(case.model.qparams["input"])
        np.testing.assert_array_equal(held.integers["stem"], expected)
    seen, fed = AtSize(case.seen.normalized, 16)[:], case.seen.fed[:]
    expected = run_integer(case.model, seen)
    for form in (dict(given=case.given), dict(given=case.given, probabilities=True)):
        for ending, written in ((".onnx", write_int8(case.model, **form)), (".tflite", write_tflite(case.model, **form))):
            np.testing.assert_array_equal(open_file(Path(f"model{ending}"), written)(fed), expected)


def test_full_precision_takes_pixels_too(case: Case) -> None:
    floats, pixels = AtSize(case.seen.normalized, case.given.hw)[:], case.seen.fed[:]
    today = ort.run_batches(ort.session(write_fp32(case.real)), floats)
    found = ort.run_batches(ort.session(write_fp32(case.real, given=case.given)), pixels)
    np.testing.assert_allclose(found, today, atol=2e-5, rtol=2e-5)


def test_probabilities_are_the_first_output_and_the_softmax_of_the_logits(case: Case) -> None:
    pixels = case.seen.fed[:20]
    onnx_file = write_int8(case.model, None, given=case.given, probabilities=True)
    first, logits = ort.session(onnx_file).run(None, {"input": pixels})
    expected = torch.from_numpy(logits).softmax(1).numpy()
    np.testing.assert_allclose(first, expected, atol=1e-6)
    running = litert.interpreter(write_tflite(case.model, given=case.given, probabilities=True))
    assert running.get_output_details()[0]["dtype"] == np.float32
    np.testing.assert_allclose(litert.invoke(running, pixels)[0], expected, atol=1e-6)


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_gate_lets_right_pixel_files_leave_and_names_what_is_wrong_in_others(case: Case, probabilities: bool) -> None:
    form = export.Form(case.given, probabilities, LABELS)
    pair = export.int8_and_fp32(case.net, case.graph, case.seen.normalized[:64], QUANTIZER, form)
    checks = export.check(pair, case.seen, case.labels)
    assert all(checks["files"][name]["identical_integers"] == 100 for name in ("model.onnx", "model.tflite"))
    report = parity_report(checks["files"], export.judged_ops(pair, case.seen, 32), 32, 99.0, 0.25)
    assert report["refused"] == [] and len(report["ops"]) > 10
    brighter = PixelsAt((case.test.int() + 1).clamp(max=255).byte(), case.given.hw)
    wrong = replace(case.seen, fed=AtSize(brighter, case.given.hw))
    first = parity_report(checks["files"], export.judged_ops(pair, wrong, 32), 32, 99.0, 0.25)["first_apart"]
    assert first["op"] == case.graph.ops[0].name
    scale, zero = pair.integer.qparams["input"]
    moved = replace(pair.integer, qparams={**pair.integer.qparams, "input": (scale, zero + 1)})
    files = {"model.onnx": write_int8(moved, given=case.given), "model.tflite": write_tflite(moved, given=case.given)}
    wrong_pair = replace(pair, files={**pair.files, **files})
    first = parity_report(checks["files"], export.judged_ops(wrong_pair, case.seen, 32), 32, 99.0, 0.25)["first_apart"]
    assert first["op"] == "input"


def test_smaller_pixels_are_the_rounded_resize(case: Case) -> None:
    small = PixelsAt(case.test, 12)
    assert len(small) == 300 and small[:7].dtype == torch.uint8 and small[3:5].shape == (2, 1, 12, 12)
    assert (small[:].float() - resize(case.test.float(), 12)).abs().max() <= 0.5 + 1e-4
    assert torch.equal(PixelsAt(case.test, 16)[:], case.test)


@pytest.mark.parametrize(("side", "hw"), [(16, 12), (28, 24), (224, 176), (32, 28), (12, 16)])
def test_resized_pixels_are_the_same_in_whole_numbers(side: int, hw: int) -> None:
    """Every weight a fraction of whole numbers: no tie falls otherwise."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, side, side), np.uint8))
    middle = hw + (2 * np.arange(side) * hw)  # of a pixel, in parts of 2 * hw of one; of an output's: side + 2 i * side
    weights = np.maximum(2 * max(side, hw) - abs(middle - (side + 2 * np.arange(hw) * side)[:, None]), 0).astype(object)
    sums = weights.sum(1)
    for image, given in zip(images[:, 0].numpy().astype(object), PixelsAt(images, hw)[:][:, 0].tolist(), strict=True):
        parts = 2 * sums[:, None] * sums
        assert ((2 * weights.dot(image).dot(weights.T) + sums[:, None] * sums) // parts).tolist() == given


def test_floats_for_a_pixel_file_and_pixels_for_a_float_file_are_refused(case: Case) -> None:
    floats, pixels = AtSize(case.seen.normalized, case.given.hw)[:2], case.seen.fed[:2]
    for taken, images in ((case.given, floats), (None, pixels)):
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            ort.run_batches(ort.session(write_int8(case.model, given=taken)), images)
        with pytest.raises(ValueError, match="Got value of type"):
            litert.run_batches(litert.interpreter(write_tflite(case.model, given=taken)), images)


def test_pixel_files_are_timed_with_pixels(case: Case) -> None:
    files = {
        "a.onnx": write_int8(case.model, given=case.given),
        "b.tflite": write_tflite(case.model, given=case.given, probabilities=True),
        "c.onnx": write_fp32(case.real, given=case.given),
    }
    times = measure_files(files, HERE, runtimes_in(versions()), 1, 2, 1, 0)
    assert {name for taken in times.values() for name in taken} == set(files)
    assert all((ms > 0).all() for taken in times.values() for ms in taken.values())


def data_of(mean: list[float], std: list[float]) -> DataConfig:
    return DataConfig(mean=mean, std=std, channels=len(mean))


@examples(st.integers(0, 255), st.floats(-0.48, 0.48), st.floats(0.01, 3), st.sampled_from([1, 3]))
def test_any_one_mean_and_std_makes_a_pixel_its_integer(step: int, beside: float, std: float, channels: int) -> None:
    mean = min(max((step + beside) / 255, 0), 1)
    data = data_of([mean] * channels, [std] * channels)
    assert holds_pixels(data.mean, data.std)
    quantizer = TensorQuantizer()
    quantizer.set_range(*input_range(data))
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, channels, 1, 1)
    scale, zero = quantizer()
    held = fake_quant_activation(normalize(every, data), scale, zero)
    assert torch.equal((held / scale + zero_point(zero)).round(), every.float())


@pytest.mark.parametrize(
    ("mean", "std"), [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.5 / 255], [0.3]), ([1.5], [1.0]), ([-0.5], [1.0])]
)
def test_other_means_do_not_and_are_refused_before_any_work(mean: list[float], std: list[float]) -> None:
    assert not holds_pixels(mean, std)
    line = ["experiment=tiny", f"data.mean={mean}", f"data.std={std}", f"data.channels={len(mean)}"]
    cfg = compose("export", line)
    with pytest.raises(UserError, match=r"^data\.mean=.* data\.std=.*export\.input=normalized$"):
        check_config([STEPS["export"]], cfg)
    check_config([STEPS["supernet"]], cfg)
    check_config([STEPS["export"]], compose("export", [*line, "export.input=normalized"]))


@pytest.mark.parametrize("name", ["fashion_mnist", "digits", "cifar10"])
def test_the_data_sets_without_folders_are_ready_for_pixels(name: str) -> None:
    data = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())
    assert holds_pixels(data["mean"], data["std"])
    assert all(abs(255 * mean - round(255 * mean)) < 0.02 for mean in data["mean"])


def test_the_files_tell_what_they_take_and_give(case: Case) -> None:
    hw = case.given.hw
    for file in (write_int8(case.model, 1, LABELS, case.given), write_fp32(case.real, 1, LABELS, case.given)):
        props = {entry.key: entry.value for entry in onnx.load_from_string(file).metadata_props}
        assert props["labels"].split("\n") == LABELS
        assert props["input.values"] == "uint8 pixels, 0 to 255; normalization is within the model"
        assert (props["input.colour"], props["input.layout"]) == ("grey", "NCHW")
        assert props["input.resize"] == f"bilinear, antialiased, to {hw}x{hw}, rounded to whole pixels, halves up"
        assert props["input.mean"] == str(case.data.mean[0]) and props["output"].startswith("logits")
    proto = onnx.load_from_string(write_int8(case.model, 1, LABELS, case.given))
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    (reader,) = [node.op_type for node in proto.graph.node if "input" in node.input]
    assert reader == "DequantizeLinear"


def test_a_tflite_file_has_its_labels_twice_and_its_input_described(case: Case) -> None:
    file = write_tflite(case.model, labels=LABELS, given=case.given)
    assert file == write_tflite(case.model, labels=LABELS, given=case.given)
    assert read_labels(file) == LABELS
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.read("labels.txt").decode().split("\n") == LABELS
    model: Any = tfl.ModelT.InitFromPackedBuf(file, 0)
    (entry,) = [entry for entry in model.metadata if entry.name == METADATA.encode()]
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001" and b"labels.txt" in content


def test_a_card_of_an_older_version_means_normalized_floats() -> None:
    told = dict(shape=[1, 1, 12, 12], mean=[0.3], std=[0.2])
    old = FileInput.read(told)
    assert (old.kind, old.channels, old.hw) == (NORMALIZED, 1, 12)
    data = compose("export", ["experiment=tiny"]).data
    for kind in (PIXELS, NORMALIZED):
        new = FileInput.of(kind, data, 12)
        assert FileInput.read(new.claims()) == new
    pixels = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    seen = shown(pixels, data, replace(FileInput.of(NORMALIZED, data, 12)))
    assert seen.fed[:].dtype == np.float32 and isinstance(seen.normalized, Normalized)
