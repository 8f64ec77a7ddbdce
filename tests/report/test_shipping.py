"""Which file to ship where: what follows from a card's figures, in a table and in words."""

from __future__ import annotations

from typing import Any

from spaceevo.report.shipping import advice, candidates, choices

Times = tuple[float | None, float | None]  # ms of a call, and of one out of cold caches
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "xml": "other"}


def card(name: str, files: dict[str, Times], device: str = "host", cpu: str | None = "a CPU") -> dict[str, Any]:
    """A card of INT8 files, and of those called ``fp32`` in FP32."""
    claims = {
        file: dict(
            runtime=RUNTIMES[file.split(".")[1]], precision="fp32" if "fp32" in file else "int8", measured_ms=ms, cold_ms=cold,
            bytes=1000 + i,
        )
        for i, (file, (ms, cold)) in enumerate(files.items())
    }  # fmt: skip
    measured = next(iter(files.values()))[0]
    return dict(name=name, device=device, host=dict(cpu=cpu), measured_ms=measured, files=claims)


def told(*cards: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The words of every choice, and the advice."""
    found = choices(candidates(cards))
    return [choice.words for choice in found], advice(found)


def test_the_fastest_file_is_shipped_and_beside_it_the_next() -> None:
    files: dict[str, Times] = {"model.onnx": (2.0, 3.0), "model.tflite": (1.0, 1.5), "fp32.onnx": (5.0, 6.0)}
    rows = candidates([card("a", files)])
    assert [(row.runtime, row.int8, row.int8_ms, row.fp32, row.fp32_ms, row.cold_ms, row.bytes) for row in rows] == [
        ("onnxruntime", "model.onnx", 2.0, "fp32.onnx", 5.0, 3.0, 1000),
        ("litert", "model.tflite", 1.0, None, None, 1.5, 1001),
    ]
    assert [row.speedup for row in rows] == [2.5, None]
    words, sentences = told(card("a", files), card("b", files))
    assert words == ["model.tflite in litert: 2.00 times as fast as model.onnx in onnxruntime"] * 2
    assert sentences == ["On host (a CPU) ship model.tflite of every model."]


def test_a_runtime_more_is_a_row_more() -> None:
    files: dict[str, Times] = {"model.onnx": (2.0, 3.0), "model.tflite": (1.5, 1.5), "model.xml": (1.0, 1.0)}
    words, _ = told(card("a", files))
    assert words == ["model.xml in other: 1.50 times as fast as model.tflite in litert"]


def test_fp32_is_shipped_where_int8_does_not_pay() -> None:
    words, sentences = told(card("a", {"model.onnx": (2.0, 3.0), "model.tflite": (1.5, 3.0), "fp32.onnx": (1.0, 2.0)}))
    assert words == ["fp32.onnx in onnxruntime: FP32 is 1.50 times as fast as the fastest INT8 file"]
    assert sentences == ["On host (a CPU) ship fp32.onnx of every model."]


def test_files_that_are_hardly_apart_are_as_good_and_a_cold_call_is_told_of() -> None:
    words, sentences = told(card("a", {"model.onnx": (1.04, 3.0), "model.tflite": (1.0, 4.0)}))
    assert words == ["model.tflite in litert or model.onnx in onnxruntime: no more than 5 % apart"]
    assert sentences == ["On host (a CPU) ship model.onnx or model.tflite of every model."]
    words, _ = told(card("a", {"model.onnx": (2.0, 3.0), "model.tflite": (1.0, 4.0)}))
    assert words[0].endswith("; for a call now and then model.onnx in onnxruntime, the fastest out of cold caches")


def test_models_and_devices_that_differ_are_told_apart() -> None:
    one: dict[str, Times] = {"model.onnx": (1.0, 1.0), "model.tflite": (2.0, 2.0)}
    other: dict[str, Times] = {"model.onnx": (2.0, 2.0), "model.tflite": (1.0, 1.0)}
    never: dict[str, Times] = {"model.onnx": (None, None), "model.tflite": (None, None)}
    words, sentences = told(card("a", one), card("b", other), card("c", other, "pi", "an ARM"), card("d", never, "phone"))
    assert words[3] == "not measured"
    assert sentences == [
        "On host (a CPU) ship model.onnx of a, and model.tflite of b.",
        "On pi (an ARM) ship model.tflite of every model.",
        "On phone nothing was measured, so nothing says which file is the fastest there.",
    ]


def test_models_of_another_run_are_named_with_its_folder() -> None:
    rows = candidates([card("a", {"model.onnx": (1.0, 1.0)})], "runs/pi")
    assert rows[0].run == "runs/pi"
    assert len(choices(rows + candidates([card("a", {"model.onnx": (1.0, 1.0)})]))) == 2
