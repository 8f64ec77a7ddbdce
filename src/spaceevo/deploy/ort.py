"""The adapter of onnxruntime: load a file, run images to logits, fetch every op's integers."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from spaceevo.deploy.integer import IntegerModel
from spaceevo.deploy.onnx_writer import OUTPUT, write_int8
from spaceevo.space.graph import INPUT

ERRORS_ONLY = 3


def session(model: bytes | Path, threads: int = 1, exact: bool = False) -> ort.InferenceSession:
    """The model in onnxruntime, fully optimized.

    ``exact``: on x86 without VNNI, 8-bit weights by kernels that do not saturate (about 0.8x the speed).
    """
    return _session(model, _options(threads, exact))


def _session(model: bytes | Path, options: ort.SessionOptions) -> ort.InferenceSession:
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _options(threads: int, exact: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def run_batches(session: ort.InferenceSession, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits ``[N, classes]`` of float32 images ``[N, C, R, R]``, ``batch`` at a time (a model of a fixed batch: that)."""
    fixed = session.get_inputs()[0].shape[0]
    step = fixed if isinstance(fixed, int) else batch
    parts = [session.run([OUTPUT], {INPUT: images[i : i + step]})[0] for i in range(0, len(images), step)]
    return np.concatenate(parts)


def record_ops(model: IntegerModel, images: np.ndarray, exact: bool = False) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``."""
    tensors = [INPUT, *(op.name for op in model.graph.ops)]
    names = [f"{name}.q" for name in tensors]
    proto = onnx.load_from_string(write_int8(model, batch=None))
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    outputs = session(proto.SerializeToString(), exact=exact).run(names, {INPUT: images})
    return dict(zip(tensors, outputs, strict=True))


def integer_op_report(model: bytes | Path) -> dict[str, int]:
    """How often each op type occurs in the graph that onnxruntime runs after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "optimized.onnx")
        options = _options(1, exact=False)
        options.optimized_model_filepath = path
        _session(model, options)
        return dict(sorted(Counter(node.op_type for node in onnx.load(path).graph.node).items()))
