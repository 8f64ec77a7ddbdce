"""The elastic module: weights of the largest graph, sliced per op by whatever graph is run through them.

``forward(x, graph)`` interprets an op graph, so the same module is the supernet, a BKD student stage or one
extracted subnet. BatchNorm statistics belong to a subnet, not to the shared weights: without ``stats`` the
batch's own are used (training), with ``stats`` the BatchNorm is folded into the convolution (evaluation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaceevo.nn.lsq import MIN_SCALE, TensorQuantizer, fake_quant_weight, hold, init_weight_scale, least_squares_range
from spaceevo.nn.parameters import OpParameters, Values, attach
from spaceevo.nn.plain import fixed, fused, padded, plain_op
from spaceevo.nn.scheme import Quantizer as Quantizer
from spaceevo.nn.scheme import clear_range
from spaceevo.space.graph import FUSED, INPUT, Graph, Op

BN_EPS = 1e-5
PASSED_ON = 8  # input channels from which on a convolution of stride 1 passes them on at first
INIT_BATCH, INIT_PIXELS = 64, 500_000  # images that quantizers are initialized from at once, and pixels of them
Stats = dict[str, tuple[Tensor, Tensor]]


class Elastic(nn.Module):
    """Shared weights for every graph whose ops are among those of ``superset``."""

    def __init__(self, superset: Graph, input_range: tuple[float, float] = (0.0, 1.0), padding: str = "symmetric") -> None:
        """``input_range``: least and greatest value of the input tensor, which fix its quantizer. ``padding``: how
        convolutions and pools of stride 2 pad, one of ``space.graph.PADDINGS``."""
        super().__init__()
        self.padding = padding
        self.ops_by_name: dict[str, OpParameters] = {}
        self.body = nn.Module()
        for op in superset.ops:
            parameters = OpParameters(op)
            attach(self.body, op.name, parameters)
            self.ops_by_name[op.name] = parameters
        self.input = TensorQuantizer().requires_grad_(False)
        self.input.set_range(*input_range)

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        graph: Graph,
        *,
        quantizer: Quantizer | None = None,
        stats: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        record: dict[str, Tensor] | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Run ``graph`` on ``x`` ``[B, C, H, W]``.

        ``quantizer``: fake-quantize every tensor the runtime holds in 8 bits. ``stats``: BatchNorm mean and variance
        per op (else the batch's own). ``record`` receives every op's output. ``dropout``: the share of the last op's
        input (the classifier's features) that is dropped.
        """
        values = {INPUT: self.enter(x, quantizer)}
        for op, finished in schedule(graph):
            inputs = [values[name] for name in op.inputs]
            if dropout and op is graph.ops[-1]:
                inputs[0] = F.dropout(inputs[0], dropout)
            y = values[op.name] = self.leave(op, self.run(op, graph, inputs, quantizer, stats), quantizer)
            for name in finished:
                del values[name]  # without gradients, its memory is free again
            if record is not None:
                record[op.name] = y
        return values[graph.ops[-1].name]

    def enter(self, x: Tensor, quantizer: Quantizer | None) -> Tensor:
        """The input tensor as the runtime holds it."""
        if quantizer is None:
            return x
        scale, zero = self.input(quantizer.symmetric)
        return hold(x, scale, zero, quantizer)

    def run(
        self,
        op: Op,
        graph: Graph,
        inputs: list[Tensor],
        quantizer: Quantizer | None,
        stats: Mapping[str, tuple[Tensor, Tensor]] | None,
    ) -> Tensor:
        """What ``op`` makes of its ``inputs``, before its output is quantized."""
        if not op.has_weight:
            return plain_op(op, inputs, self.padding, quantizer)
        weight, p = self.quantized_weight(op, quantizer), self.ops_by_name[op.name]
        if op.norm and stats is None:
            y = self.conv(op, inputs[0], weight)
            return self._act(
                op, F.batch_norm(y, None, None, p.gain[: op.cout], p.shift[: op.cout], training=True, eps=BN_EPS), quantizer
            )
        factor, bias = self.folded(op, stats)
        if quantizer is not None:
            bias = self.on_grid(op, bias, factor, self.scale_of(op.inputs[0], graph, quantizer))
        weight = weight if factor is None else weight * factor[:, None, None, None]
        return self._act(op, self.conv(op, inputs[0], weight, bias if op.norm or op.bias else None), quantizer)

    def normalize(
        self, op: Op, graph: Graph, y: Tensor, quantizer: Quantizer | None, stats: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """What :meth:`run` gives where ``y`` is the convolution's output without its BatchNorm."""
        factor, bias = self.folded(op, stats)
        assert factor is not None
        if quantizer is not None:
            bias = self.on_grid(op, bias, factor, self.scale_of(op.inputs[0], graph, quantizer))
        return self._act(op, y * factor[:, None, None] + bias[:, None, None], quantizer)

    def leave(self, op: Op, y: Tensor, quantizer: Quantizer | None) -> Tensor:
        """The op's output as the runtime holds it."""
        if quantizer is None or op.kind == "maxpool":
            return y
        return hold(y, *self.output_quantizer(op, quantizer), quantizer, from_zero=op.act in FUSED)

    def conv(self, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The op's convolution alone."""
        x, pad = padded(op, x, self.padding, 0.0)
        return F.conv2d(x, weight, bias, op.stride, pad, groups=op.cout if op.kind == "depthwise" else 1)

    def _act(self, op: Op, y: Tensor, quantizer: Quantizer | None) -> Tensor:
        """The fused activation; where the output is quantized, its range is the clamp."""
        if op.act == "hsigmoid":
            return y / 6 + 0.5 if quantizer is not None else F.hardsigmoid(y)
        return fused(op.act, y) if quantizer is None else y

    # -- what exporters read ------------------------------------------------------------------------------------

    def weight(self, op: Op) -> Tensor:
        """The op's slice: leading channels, centre of the kernel. ``[cout, cin / groups, k, k]``."""
        full = self.ops_by_name[op.name].weight
        cout, cin, kernel, _ = op.weight_shape
        crop = (full.shape[2] - kernel) // 2
        return full[:cout, :cin, crop : crop + kernel, crop : crop + kernel]

    def quantized_weight(self, op: Op, quantizer: Quantizer | None) -> Tensor:
        """:meth:`weight`, on its grid where there is a ``quantizer``."""
        weight = self.weight(op)
        if quantizer is None:
            return weight
        return fake_quant_weight(weight.contiguous(), self.ops_by_name[op.name].weight_scale(), quantizer.weight_bits)

    def folded(self, op: Op, stats: Mapping[str, tuple[Tensor, Tensor]] | None) -> tuple[Tensor | None, Tensor]:
        """Per-channel gain (None without a BatchNorm) and bias of the op with its BatchNorm folded."""
        p = self.ops_by_name[op.name]
        if not op.norm or stats is None:
            return None, p.shift[: op.cout] if op.bias else p.weight.new_zeros(op.cout)
        shift = p.shift[: op.cout]
        mean, var = stats[op.name]
        gain = p.gain[: op.cout] * torch.rsqrt(var + BN_EPS)
        return gain, shift - mean * gain

    def output_quantizer(self, op: Op, quantizer: Quantizer) -> tuple[Tensor, Tensor]:
        """Scale and zero point (in steps, not yet rounded: ``lsq.zero_point``) of the op's output tensor."""
        p = self.ops_by_name[op.name]
        if op.act == "hsigmoid":
            return fixed(quantizer.gate_scale(op.act), self.input.scale.unit, quantizer.zero)
        scale, zero = p.output(quantizer.symmetric)
        if op.act == "relu6":
            scale = scale + (scale.clamp(max=6 / quantizer.levels) - scale).detach()  # at the cap it still learns
        # In a stack an op may be fused in some subnets only.
        return scale, torch.full_like(zero, quantizer.zero) if op.act in FUSED else zero

    def scale_of(self, tensor: str, graph: Graph, quantizer: Quantizer) -> Tensor:
        """The scale of ``input`` or of an op's output; a pool's is its input's."""
        if tensor == INPUT:
            return self.input(quantizer.symmetric)[0]
        op = graph.op(tensor)
        if op.kind == "maxpool":
            return self.scale_of(op.inputs[0], graph, quantizer)
        return self.output_quantizer(op, quantizer)[0]

    def on_grid(self, op: Op, bias: Tensor, gain: Tensor | None, input_scale: Tensor) -> Tensor:
        """The bias as the runtime holds it: int32 on the grid ``sx * sw[c]``."""
        step = input_scale * self.ops_by_name[op.name].weight_scale()
        step = step if gain is None else step * gain.abs().clamp(min=MIN_SCALE)
        shift = 3.0 if op.act == "hsigmoid" else 0.0  # the gate's +1/2 is part of the stored bias
        return (((bias + shift) / step).round() * step - shift - bias).detach() + bias

    # -- quantizer initialization -------------------------------------------------------------------------------

    @torch.no_grad()
    def init_quantizers(self, x: Tensor, graphs: Iterable[Graph], superset: Graph, quantizer: Quantizer) -> None:
        """Initial scales and zero points of least squared error: of the weights, and of the values that the activations
        have in full precision on the batch ``x`` over all ``graphs``; ops that none of them runs, over ``superset``. A
        symmetric input holds the range that it began with."""
        seen = Values()
        for graph in graphs:
            self._observe(x, graph, seen)
        unseen = Values()
        self._observe(x, superset, unseen)
        for name, p in self.ops_by_name.items():
            if hasattr(p, "weight"):
                p.weight_scale.set(init_weight_scale(p.weight, quantizer.weight_bits))
            source = seen if name in seen.extremes else unseen
            if hasattr(p, "output") and name in source.extremes:
                values, symmetric = source.of(name), quantizer.symmetric
                p.output.set_range(*least_squares_range(*values, symmetric), symmetric)
        if quantizer.symmetric:
            self.input.set_range(*clear_range(*self.input.range()), symmetric=True)

    def _observe(self, x: Tensor, graph: Graph, into: Values) -> None:
        at_once = max(1, min(INIT_BATCH, INIT_PIXELS // graph.input.hw**2))
        for images in x.tensor_split(
            -(-len(x) // at_once)
        ):  # of nearly one size: no single image is left, which has no variance
            self(resize(images, graph.input.hw), graph, record=into)


@torch.no_grad()
def pass_on(net: Elastic, superset: Graph) -> Elastic:
    """``net``, whose convolutions of stride 1 begin near passing their leading input channels on: a deeper stage begins as what
    a shallower one does, and wider ones as what narrower ones do, and need not learn that first."""
    for op in superset.ops:
        if op.kind == "conv" and op.norm and op.stride == 1 and op.cin >= PASSED_ON:
            weight = net.ops_by_name[op.name].weight
            few, centre = min(weight.shape[:2]), weight.shape[2] // 2
            weight[:few] *= 0.2
            weight[range(few), range(few), centre, centre] += 1
    return net


def schedule(graph: Graph) -> Iterator[tuple[Op, list[str]]]:
    """Every op in order, and the tensors that nobody reads after it."""
    last_use = {name: op.name for op in graph.ops for name in op.inputs}
    for op in graph.ops:
        yield op, [name for name in set(op.inputs) if last_use[name] == op.name]


def resize(x: Tensor, hw: int) -> Tensor:
    """Images ``[B, C, H, W]`` at ``hw`` x ``hw``: bilinear, antialiased, the same in training, search and the tests
    of exported models."""
    if x.shape[-1] == hw:
        return x
    y = F.interpolate(x, size=(hw, hw), mode="bilinear", antialias=True, align_corners=False)
    return y.contiguous(memory_format=torch.channels_last)
