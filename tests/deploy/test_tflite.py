"""The TFLite files: what is in them, and how they are run."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from deploy.nets import QUANTIZER, demo_subnet, random_net, smooth_images

from spaceevo.deploy.files.tflite_writer import read_labels, write_tflite
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel, gate_qparams
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.runtimes.litert import interpreter, run_batches
from spaceevo.latency.runtimes.call import opener
from spaceevo.space import Graph
from spaceevo.space.graph import PADDINGS


def demo_model(padding: str = "symmetric", types: str = "2046") -> tuple[Graph, IntegerModel]:
    graph = demo_subnet(types)
    net, stats = random_net(graph, padding=padding)
    return graph, integer_model(net, graph, stats, QUANTIZER)


def operators(file: bytes) -> list[str]:
    """Of the file itself, without those that the interpreter adds."""
    return [op["op_name"] for op in interpreter(file)._get_ops_details() if op["op_name"] != "DELEGATE"]


def test_input_and_output_are_int8_of_the_trained_scales() -> None:
    graph, model = demo_model()
    loaded = Interpreter(model_content=write_tflite(model))
    (x,), (y,) = loaded.get_input_details(), loaded.get_output_details()
    assert (x["name"], y["name"], x["dtype"], y["dtype"]) == ("input", "logits", np.int8, np.int8)
    assert list(x["shape"]) == [1, graph.input.hw, graph.input.hw, 1] and list(y["shape"]) == [1, 10]
    assert x["quantization"] == pytest.approx((model.qparams["input"][0], model.qparams["input"][1] - 128))
    assert y["quantization"] == pytest.approx((model.output_qparams[0], model.output_qparams[1] - 128))


def test_float_input_and_output_give_the_same_logits() -> None:
    graph, model = demo_model()
    x = smooth_images(20, graph, seed=1).numpy()
    file = write_tflite(model, float_io=True)
    (given,) = Interpreter(model_content=file).get_input_details()
    assert given["dtype"] == np.float32
    np.testing.assert_array_equal(run_batches(interpreter(file), x), run_integer(model, x))


def test_any_batch_runs_and_the_last_may_be_smaller() -> None:
    graph, model = demo_model()
    x = smooth_images(11, graph, seed=1).numpy()
    loaded, expected = interpreter(write_tflite(model)), run_integer(model, x)
    for batch in (1, 4, 64):
        np.testing.assert_array_equal(run_batches(loaded, x, batch), expected)


@pytest.mark.parametrize("float_io", [False, True])
def test_a_timed_call_prepares_nothing_and_gives_the_output(float_io: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an app does: the prepared input set, the model run, the output fetched."""
    graph, model = demo_model()
    file = write_tflite(model, float_io=float_io)
    timed = opener("litert")(file, 1)
    image = np.random.default_rng(0).standard_normal((1, graph.input.channels, graph.input.hw, graph.input.hw))
    expected = run_batches(interpreter(file), image.astype(np.float32))

    def refused(*arguments: object) -> None:
        raise AssertionError("an input is prepared in the timed call")

    monkeypatch.setattr("spaceevo.latency.runtimes.litert._prepared", refused)
    scale, zero = (1.0, 0) if float_io else (model.output_qparams[0], model.output_qparams[1] - 128)
    given = (np.asarray(timed(), np.float32) - zero) * np.float32(scale)
    np.testing.assert_array_equal(given, expected)


def test_a_sigmoid_has_the_scale_that_tflite_prescribes_whatever_it_reads() -> None:
    """Of this tensor there is an integer near a tie of the sigmoid that no settling of scales moves away."""
    graph = demo_subnet("2406")
    net, stats = random_net(graph)
    swish = next(op for op in graph.ops if op.kind == "swish")
    quantizer = net.ops_by_name[swish.inputs[0]].output
    quantizer.set_range(-140 * 0.0423774, 115 * 0.0423774)
    quantizer.scale.set(0.042377084493637085)
    model = integer_model(net, graph, stats, QUANTIZER)
    assert model.qparams[f"{swish.name}.gate"] == gate_qparams("sigmoid", QUANTIZER)
    interpreter(write_tflite(model), xnnpack=False)


def test_labels_are_in_the_file() -> None:
    _, model = demo_model()
    labels = ["T-shirt", "Hemd mit Ärmeln", *"01234567"]
    assert read_labels(write_tflite(model, labels=labels)) == labels
    assert read_labels(write_tflite(model)) == []


def test_only_symmetric_padding_needs_an_op_of_its_own() -> None:
    counts = {padding: operators(write_tflite(demo_model(padding)[1])).count("PAD") for padding in PADDINGS}
    assert counts["same"] == 0 < counts["symmetric"]


def test_xnnpack_runs_every_op() -> None:
    """A single delegate node in the plan: nothing is left to the kernels that round otherwise."""
    for padding in PADDINGS:
        _, model = demo_model(padding, types="0246")
        loaded = interpreter(write_tflite(model))
        details = loaded._get_ops_details()
        (delegate,) = [op for op in details if op["op_name"] == "DELEGATE"]
        assert loaded.get_input_details()[0]["index"] in delegate["inputs"]
        assert loaded.get_output_details()[0]["index"] in delegate["outputs"]


def test_the_bytes_depend_on_the_model_alone() -> None:
    assert write_tflite(demo_model()[1]) == write_tflite(demo_model()[1])
