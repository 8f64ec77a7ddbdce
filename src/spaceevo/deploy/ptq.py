"""Post-training quantization, the baseline of quantization-aware training: onnxruntime's own static quantizer."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spaceevo.deploy.integer.reference import Arrays
from spaceevo.nn.scheme import Quantizer

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
CHUNK = 16  # images whose activations are held at once


def post_training_quantized(fp32: bytes, images: Arrays, method: str, quantizer: Quantizer) -> bytes:
    """An FP32 ONNX model in INT8 (QDQ): weights symmetric with a scale per output channel, activations uint8 of the ranges
    that ``method`` (one of :data:`METHODS`) finds over normalized ``images`` ``[N, C, R, R]``, or int8 with zero points of 0
    (and biases in float32, as TensorRT reads them) where the ``quantizer`` holds them so; weights of its bits."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("fp32", "prepared", "int8"))
        source.write_bytes(fp32)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=quantizer.weight_bits == 7,
            activation_type=QuantType.QInt8 if quantizer.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[METHODS[method]],
            extra_options={
                "CalibStridedMinMax": math.gcd(len(images), CHUNK),
                "ActivationSymmetric": quantizer.symmetric,
                "QuantizeBias": not quantizer.symmetric,
            },
        )
        return target.read_bytes()


class _Reader:
    """Images one by one, as onnxruntime's calibration asks for them: a range of them at a time."""

    def __init__(self, images: Arrays) -> None:
        self.images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:
        i = next(self.left, None)
        return None if i is None else {"input": np.ascontiguousarray(self.images[i : i + 1])}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice: it prints, and logs to the root logger."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
