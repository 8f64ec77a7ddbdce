"""When an exported model is refused, and what is exported beside it."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.settings import setting

CALIBRATE = ("minmax", "entropy", "percentile")  # how onnxruntime's quantizer finds ranges


@dataclass
class ExportConfig:
    """The parity gate, and post-training quantization as a baseline.

    Attributes:
        tolerance: least share of the test images that get the trained model's label from an exported one, percent.
        mean_difference: most that its outputs are from the trained model's on average, in steps of the output's quantizer.
        calibrate: how onnxruntime's quantizer finds the activations' ranges; None: no baseline.
        dynamic_batch: ONNX files take any number of images, not one.
        float_io: TFLite files take and give float32, not int8.
    """

    tolerance: float = setting(least=0, most=100)
    mean_difference: float = setting(least=0)
    calibrate: str | None = setting(choices=("null", *CALIBRATE))
    dynamic_batch: bool = MISSING
    float_io: bool = MISSING
