"""What else onnxruntime tells of our files: every op's integers, what is in a file, what it makes of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.integer.model import MIDDLE, Inspection, IntegerModel
from spaceevo.latency.runtimes.ort import OUTPUT, load, session_options
from spaceevo.latency.runtimes.ort import run_batches as run_batches
from spaceevo.space.graph import INPUT


def session(model: bytes | Path, threads: int = 1, exact: bool = False) -> ort.InferenceSession:
    """The model in onnxruntime, fully optimized.

    ``exact``: on x86 without VNNI, 8-bit weights by kernels that do not saturate (about 0.8x the speed).
    """
    options = session_options(threads)
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return load(model, options=options)


def record_ops(model: IntegerModel, images: np.ndarray, exact: bool = False) -> dict[str, np.ndarray]:
    """The input's and every op's integers, uint8 ``[N, C, H, W]``."""
    tensors = [INPUT, *(op.name for op in model.graph.ops)]
    names = [f"{name}.q" for name in tensors]
    proto = onnx.load_from_string(write_int8(model, batch=None))
    kind = onnx.TensorProto.INT8 if model.symmetric else onnx.TensorProto.UINT8
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in names)
    outputs = session(proto.SerializeToString(), exact=exact).run(names, {INPUT: images})
    return dict(zip(tensors, map(_unsigned, outputs), strict=True))


def _unsigned(integers: np.ndarray) -> np.ndarray:
    """uint8, of int8 too."""
    return integers if integers.dtype == np.uint8 else (integers.astype(np.int16) + MIDDLE).astype(np.uint8)


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
    held = {name: [constants[key] for key in node.input[1:]] for name, node in quantizers.items()}
    qparams = {name: (scale.item(), int(_unsigned(zero))) for name, (scale, zero) in held.items()}
    real: dict[str, dict[str, np.ndarray]] = {"weight": {}, "bias": {}}
    for node in copy.graph.node:
        if node.op_type == "Conv":
            for kind, name in zip(real, node.input[1:], strict=True):
                real[kind][node.name] = constants[name].copy() if name in constants else _dequantized(constants, sources[name])
    tensors = [quantizers[name].output[0] for name in ops]
    signed = any(zero.dtype == np.int8 for _, zero in held.values())
    integers = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    copy.graph.output.extend(onnx.helper.make_tensor_value_info(name, integers, None) for name in tensors)
    running = session(copy.SerializeToString())
    fixed = running.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else len(images)
    parts = [running.run([OUTPUT, *tensors], {INPUT: images[i : i + batch]}) for i in range(0, len(images), batch)]
    logits, *given = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Inspection(qparams, real["weight"], real["bias"], dict(zip(ops, map(_unsigned, given), strict=True)), logits)


def _dequantized(constants: Mapping[str, np.ndarray], source: Sequence[str]) -> np.ndarray:
    """The real values of a weight or bias: of what a DequantizeLinear reads."""
    held, scales = (constants[name] for name in source[:2])
    return np.asarray((held.T * scales).T)


def integer_op_report(model: bytes | Path) -> dict[str, int]:
    """How often each op type occurs in the graph that onnxruntime runs after its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "optimized.onnx")
        options = session_options(1)
        options.optimized_model_filepath = path
        load(model, options=options)
        return dict(sorted(Counter(node.op_type for node in onnx.load(path).graph.node).items()))
