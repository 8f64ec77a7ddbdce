"""The integer reference: executes an integer model in numpy, integer for integer as the runtimes do. It is the judge.

Where onnxruntime, LiteRT with XNNPACK and this reference give the same integers, op by op (AVX512-VNNI host, onnxruntime
1.32, ai-edge-litert 2.3; sx, sw, sy scales, zy the output's zero point, all arithmetic in float32, ties to even):

- convolution: ``clip(rint(float32(acc) * (sx * sw[c] / sy)) + zy)`` with the exact int32 sum ``acc``, bias included; in
  all three, always. Without VNNI, onnxruntime's 8-bit products saturate: weights of 7 bits or ``session(exact=True)``;
- add, product, mean and the gates (hard sigmoid, sigmoid): ``clip(rint(real / sy) + zy)``; always, after ``settle`` moved
  a scale by a few parts per million to where no input is near enough to a tie for the runtimes' roundings to show, which
  is tried for every possible input: see :mod:`spaceevo.deploy.integer.arithmetic`. Before, every other addition has such
  a pair of inputs;
- hard-swish is a gate of 8 bits and a product; TFLite's own HARD_SWISH is up to a step off and slower;
- a sigmoid has the output scale 1/256 that TFLite prescribes (at 1/255 the value at 0 would be a tie);
- max pooling and padding: exact, the output has the input's scale and zero point;
- in a symmetric model a fused activation clips at the integer 128 and not at the range's end, and TFLite's sigmoid is one in
  float32 between the integers, for its own would have another zero point;
- LiteRT without XNNPACK is another arithmetic: up to a step off in every op, and not gated on.

Tensors are uint8 ``[N, H, W, C]`` inside and ``[N, C, H, W]`` outside. Sums are taken by matrix products in floats wide
enough to hold every partial sum exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from spaceevo.deploy.integer.arithmetic import table
from spaceevo.deploy.integer.model import ACT_MAX, IntegerModel, QParams, least
from spaceevo.sliced import Sliced
from spaceevo.space.graph import INPUT, Op

EXACT_FLOAT32 = 2**24  # float32 holds every integer up to here
CHUNK = 2**19  # elements of the largest intermediate array: what a cache holds
F = np.float32


Arrays = Sliced[np.ndarray]  # float32 images [N, C, R, R]: an array, or what makes slices of one when asked


def run_integer(model: IntegerModel, images: Arrays, record: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Logits ``[N, classes]`` of float32 images ``[N, C, R, R]``, each an integer times the output's scale.

    ``record`` receives the input's and every op's output integers, uint8 ``[N, C, H, W]``.
    """
    outputs: list[np.ndarray] = []
    records: list[dict[str, np.ndarray]] = []
    step = max(1, CHUNK // max(_elements(op) for op in model.graph.ops))
    last_use = {name: op.name for op in model.graph.ops for name in op.inputs}
    for x in _chunks(images, step):
        values = {INPUT: quantize(x, model.qparams[INPUT]).transpose(0, 2, 3, 1)}
        kept = dict(values)
        for op in model.graph.ops:
            values[op.name] = _run(model, op, [values[name] for name in op.inputs])
            if record is not None:
                kept[op.name] = values[op.name]
            for name in {name for name in op.inputs if last_use[name] == op.name}:
                del values[name]
        outputs.append(_outside(values[model.graph.output.name]).reshape(len(x), -1))
        records.append(kept)
    if record is not None:
        record.update({name: np.concatenate([_outside(kept[name]) for kept in records]) for name in records[0]})
    scale, zero = model.output_qparams
    return (np.concatenate(outputs).astype(F) - F(zero)) * F(scale)


def run_op(model: IntegerModel, op: Op, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The output integers of one op, uint8 ``[N, C, H, W]``, of its ``inputs`` in the same form."""
    return _outside(_run(model, op, [np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in inputs]))


def quantize(images: np.ndarray, qparams: QParams) -> np.ndarray:
    """Float32 images as the input tensor's integers, uint8."""
    scale, zero = qparams
    return np.clip(np.rint(images / F(scale)) + F(zero), 0, ACT_MAX).astype(np.uint8)


def _chunks(images: Arrays, step: int) -> Iterator[np.ndarray]:
    yield from (images[i : i + step] for i in range(0, len(images), step))


def _outside(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _elements(op: Op) -> int:
    """The size of the largest array that one image's op makes."""
    taps = op.kernel**2 * op.cin if op.kind == "conv" else op.cout
    return max(op.in_hw**2 * op.cin, op.out_hw**2 * max(taps, op.cout))


def _run(model: IntegerModel, op: Op, inputs: Sequence[np.ndarray]) -> np.ndarray:
    if op.kind in KINDS:
        return KINDS[op.kind](model, op, inputs[0])
    lookup = table(op, tuple(model.qparams[name] for name in op.inputs), model.qparams[op.name])
    if len(inputs) == 1:
        return lookup[inputs[0]]
    pairs = inputs[0].astype(np.uint16) << 8
    return lookup.reshape(-1)[pairs | inputs[1]]


def _padded(model: IntegerModel, op: Op, x: np.ndarray, fill: int) -> np.ndarray:
    before, after = op.pads(model.padding)
    edges = (before, after)
    return np.pad(x, ((0, 0), edges, edges, (0, 0)), constant_values=fill) if op.kernel > 1 else x


def _taps(op: Op, x: np.ndarray) -> Iterator[np.ndarray]:
    """What each of the window's positions reads of the padded ``x``: ``[N, out_hw, out_hw, C]``, by row and column."""
    span = (op.out_hw - 1) * op.stride + 1
    for i in range(op.kernel):
        for j in range(op.kernel):
            yield x[:, i : i + span : op.stride, j : j + span : op.stride]


def _conv(model: IntegerModel, op: Op, x: np.ndarray) -> np.ndarray:
    scale_x, zero_x = model.qparams[op.inputs[0]]
    scale_y, zero_y = model.qparams[op.name]
    weights, bias = model.weights[op.name], model.biases[op.name]
    bound = max(zero_x, ACT_MAX - zero_x) * np.abs(weights.astype(np.int64)).sum((1, 2, 3)) + np.abs(bias.astype(np.int64))
    dtype = np.dtype(F if bound.max() < EXACT_FLOAT32 else np.float64)
    values = _padded(model, op, x, zero_x).astype(dtype)
    values -= zero_x
    total = (_depthwise_sums if op.kind == "depthwise" else _dense_sums)(op, values, weights.astype(dtype))
    total += bias.astype(dtype)
    y = total.astype(F, copy=False)  # the one rounding of the sum, as from int32
    y *= F(scale_x) * model.weight_scales[op.name] / F(scale_y)
    np.rint(y, out=y)
    y += F(zero_y)
    return np.clip(y, least(op, model.qparams[op.name]), ACT_MAX, out=y).astype(np.uint8)


def _dense_sums(op: Op, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    shape = (len(x), op.out_hw, op.out_hw, -1)
    columns = np.concatenate([tap.reshape(-1, op.cin) for tap in _taps(op, x)], axis=1)
    return (columns @ weights.transpose(2, 3, 1, 0).reshape(-1, op.cout)).reshape(shape)


def _depthwise_sums(op: Op, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = np.zeros((len(x), op.out_hw, op.out_hw, op.cout), x.dtype)
    product = np.empty_like(total)
    for tap, weight in zip(_taps(op, x), weights.reshape(op.cout, -1).T, strict=True):
        total += np.multiply(tap, weight, out=product)
    return total


def _maxpool(model: IntegerModel, op: Op, x: np.ndarray) -> np.ndarray:
    taps = _taps(op, _padded(model, op, x, 0))
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


def _mean(model: IntegerModel, op: Op, x: np.ndarray) -> np.ndarray:
    lookup = table(op, (model.qparams[op.inputs[0]],), model.qparams[op.name])
    return lookup[x.sum((1, 2), dtype=np.int64, keepdims=True)]


#: The kinds that are more than a look-up of their inputs' integers in a table.
KINDS: dict[str, Callable[[IntegerModel, Op, np.ndarray], np.ndarray]] = {
    "conv": _conv,
    "depthwise": _conv,
    "maxpool": _maxpool,
    "mean": _mean,
}
