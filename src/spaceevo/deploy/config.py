"""When an exported model is refused, and what is exported beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaceevo.latency.machines.cpus import CPUS
from spaceevo.settings import setting

PIXELS, NORMALIZED = "pixels", "normalized"  # what a file takes
LOGITS, PROBABILITIES = "logits", "probabilities"  # what it gives
NEAR = 0.49  # steps: nearer to the next integer than this, float32 decides
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
    input: str = setting(
        "what files take: pixels, uint8 from 0 to 255 (mean and std are then of all channels alike), or normalized floats",
        choices=(PIXELS, NORMALIZED),
    )
    output: str = setting("what files give: logits, or first the softmax of them, as float32", choices=(LOGITS, PROBABILITIES))
    dynamic_batch: bool = setting("ONNX files take any number of images, not one")
    float_io: bool = setting("TFLite files give float32, not int8, and take it where they take no pixels")
    emulate: list[str] = setting(
        "CPUs that the INT8 files are run on too, emulated, over 100 test images: their integers have to be the reference's",
        choices=tuple(CPUS),
    )


def holds_pixels(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether the input's quantizer, whose range is that of all channels (``spaceevo.data.input_range``), gives every pixel
    from 0 to 255 of every channel the pixel itself: it does where ``mean`` and ``std`` ``[C]`` are the same for all."""
    ends = [((value - m) / s) for m, s in zip(mean, std, strict=False) for value in (0, 1)]
    black, white = min(0.0, *ends), max(0.0, *ends)
    scale = (white - black) / 255
    zero = round(-black / scale)
    return all(abs(end / scale + zero - pixel) < NEAR for end, pixel in zip(ends, len(ends) * (0, 255), strict=False))
