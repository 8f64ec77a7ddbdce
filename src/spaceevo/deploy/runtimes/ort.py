"""The adapter of onnxruntime: load a file, run images to logits, fetch every op's integers, read what is in a file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from spaceevo.deploy.files.onnx_writer import OUTPUT, write_int8
from spaceevo.deploy.integer.model import Inspection, IntegerModel
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
    """Logits ``[N, classes]`` of images ``[N, C, R, R]``, float32 or uint8 as the file takes them, ``batch`` at a time (a model
    of a fixed batch: that)."""
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


def inspect(file: bytes, ops: Sequence[str], images: np.ndarray) -> Inspection:
    """What a QDQ file of ours holds, and the output integers of its ``ops`` over ``images``, by a copy that puts them out.

    Raises:
        KeyError: the file has no such op.
    """
    copy = onnx.load_from_string(file)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    quantizers = {node.output[0].removesuffix(".q"): node for node in copy.graph.node if node.op_type == "QuantizeLinear"}
    sources = {node.name: node.input for node in copy.graph.node}
    quantizers.setdefault(INPUT, next(node for node in copy.graph.node if node.name == f"{INPUT}.dq"))  # pixels
    qparams = {name: (constants[node.input[1]].item(), constants[node.input[2]].item()) for name, node in quantizers.items()}
    real: dict[str, dict[str, np.ndarray]] = {"weight": {}, "bias": {}}
    for node in copy.graph.node:
        if node.op_type == "Conv":
            for kind, name in zip(real, node.input[1:], strict=True):
                held, scales = (constants[source] for source in sources[name][:2])
                real[kind][node.name] = (held.T * scales).T
    tensors = [quantizers[name].output[0] for name in ops]
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in tensors)
    running = session(copy.SerializeToString())
    fixed = running.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else len(images)
    parts = [running.run([OUTPUT, *tensors], {INPUT: images[i : i + batch]}) for i in range(0, len(images), batch)]
    logits, *given = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Inspection(qparams, real["weight"], real["bias"], dict(zip(ops, given, strict=True)), logits)


def integer_op_report(model: bytes | Path) -> dict[str, int]:
    """How often each op type occurs in the graph that onnxruntime runs after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "optimized.onnx")
        options = _options(1, exact=False)
        options.optimized_model_filepath = path
        _session(model, options)
        return dict(sorted(Counter(node.op_type for node in onnx.load(path).graph.node).items()))
