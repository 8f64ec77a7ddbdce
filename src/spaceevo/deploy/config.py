"""When an exported model is refused, and what is exported beside it."""

from __future__ import annotations

from dataclasses import dataclass

from spaceevo.settings import setting

CALIBRATE = ("minmax", "entropy", "percentile")  # how onnxruntime's quantizer finds ranges


@dataclass
class ExportConfig:
    """The parity gate, and post-training quantization as a baseline."""

    tolerance: float = setting(
        "least share of the test images that get the trained model's label from an exported one, percent", least=0, most=100
    )
    mean_difference: float = setting(
        "most that its outputs are from the trained model's on average, in steps of the output's quantizer", least=0, most=255
    )
    calibrate: str | None = setting(
        "how onnxruntime's quantizer finds the activations' ranges for a baseline; null: no baseline",
        choices=("null", *CALIBRATE),
    )
    dynamic_batch: bool = setting("ONNX files take any number of images, not one")
    float_io: bool = setting("TFLite files take and give float32, not int8")
