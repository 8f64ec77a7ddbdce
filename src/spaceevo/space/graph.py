"""The op graph: what a block type emits, and what training, counting, timing and export interpret.

An op has exactly one output tensor, and the tensor carries the op's name. ``relu``, ``relu6`` and the
hard-sigmoid gate of SE are *fused* activations (an INT8 runtime folds them into the output's range), so they
are an attribute of the op before them; ``hswish`` and ``swish`` need the value they act on and are ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

FUSED = ("relu", "relu6", "hsigmoid")
ACTIVATIONS = ("relu", "relu6", "hswish", "swish")
INPUT = "input"
#: How a convolution of stride 2 pads: alike on both sides, as PyTorch does, or more at the end, as TFLite's SAME does.
PADDINGS = ("symmetric", "same")
#: How a tensor is held in 8 bits: unsigned with a zero point, or signed with zero point 0.
AFFINE, SYMMETRIC = "affine", "symmetric"
SCHEMES = (AFFINE, SYMMETRIC)


def round8(channels: float) -> int:
    """Channels rounded to a multiple of 8, never more than 10 % below what was asked (MobileNet's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True)
class Tensor:
    """A feature map ``[B, channels, hw, hw]``."""

    name: str
    channels: int
    hw: int


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. ``kind``: conv, depthwise, mean (over H and W), maxpool, mul (SE gate), add, hswish or swish.

    ``norm``: followed by a BatchNorm; ``bias``: has a bias of its own (SE's convolutions and the classifier). A
    convolution within a stack has neither.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    cin: int
    cout: int
    in_hw: int
    out_hw: int
    kernel: int = 1
    stride: int = 1
    act: str | None = None
    norm: bool = False
    bias: bool = False

    @property
    def has_weight(self) -> bool:
        """Whether it is a convolution; the linear layer is one."""
        return self.kind in ("conv", "depthwise")

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """``[cout, cin / groups, kernel, kernel]``."""
        return (self.cout, 1 if self.kind == "depthwise" else self.cin, self.kernel, self.kernel)

    def pads(self, padding: str) -> tuple[int, int]:
        """Rows (and columns) of padding before and after the input, under one of ``PADDINGS``."""
        if padding == "symmetric":
            return self.kernel // 2, self.kernel // 2
        total = max((self.out_hw - 1) * self.stride + self.kernel - self.in_hw, 0)
        return total // 2, total - total // 2

    @property
    def macs(self) -> int:
        """Multiply-adds of one image; convolutions (and the linear layer, a 1x1 convolution) only."""
        if not self.has_weight:
            return 0
        cout, cin, kernel, _ = self.weight_shape
        return self.out_hw**2 * cout * cin * kernel**2

    @property
    def params(self) -> int:
        """Weights, two per BatchNorm channel, and biases."""
        if not self.has_weight:
            return 0
        cout, cin, kernel, _ = self.weight_shape
        return cout * cin * kernel**2 + 2 * cout * self.norm + cout * self.bias


@dataclass
class Graph:
    """Ops in execution order, from the tensor ``input`` to the last op's output."""

    input: Tensor
    ops: list[Op] = field(default_factory=list)

    @property
    def output(self) -> Tensor:
        """What the last op makes."""
        last = self.ops[-1]
        return Tensor(last.name, last.cout, last.out_hw)

    def op(self, name: str) -> Op:
        """The op of that name."""
        return next(op for op in self.ops if op.name == name)

    def with_classes(self, classes: int) -> Graph:
        """The same network with another number of outputs: its last op is the classifier."""
        return Graph(self.input, [*self.ops[:-1], replace(self.ops[-1], cout=classes)])

    def as_data(self) -> dict[str, Any]:
        """Plain data that :func:`graph_of` reads."""
        x = self.input
        return {"input": [x.name, x.channels, x.hw], "ops": [asdict(op) | {"inputs": list(op.inputs)} for op in self.ops]}

    def consumers(self) -> dict[str, list[Op]]:
        """The ops that read each tensor."""
        readers: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in op.inputs:
                readers.setdefault(name, []).append(op)
        return readers


def graph_of(data: dict[str, Any]) -> Graph:
    """The graph of :meth:`Graph.as_data`."""
    return Graph(Tensor(*data["input"]), [Op(**{**op, "inputs": tuple(op["inputs"])}) for op in data["ops"]])


class GraphBuilder:
    """Appends named ops to a graph. ``superset=True`` emits every op that any subnet may need (the forced
    shortcut convolution), for allocating a supernet's weights."""

    def __init__(self, channels: int, hw: int, superset: bool = False) -> None:
        self.x = Tensor(INPUT, channels, hw)
        self.graph = Graph(self.x)
        self.superset = superset
        self._scope: list[str] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix of the op names, e.g. ``stage1.0``."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def _emit(self, name: str, kind: str, inputs: tuple[Tensor, ...], cout: int, out_hw: int, **attrs: object) -> Tensor:
        x = inputs[0]
        full = ".".join([*self._scope, name])
        op = Op(full, kind, tuple(t.name for t in inputs), x.channels, cout, x.hw, out_hw, **attrs)  # type: ignore[arg-type]
        self.graph.ops.append(op)
        return Tensor(full, cout, out_hw)

    def _weighted(
        self, kind: str, name: str, x: Tensor, cout: int, kernel: int, stride: int, act: str | None, norm: bool, bias: bool
    ) -> Tensor:
        out_hw = -(-x.hw // stride)
        fused = act if act in FUSED else None
        attrs = dict(kernel=kernel, stride=stride, act=fused, norm=norm, bias=bias)
        y = self._emit(name, kind, (x,), cout, out_hw, **attrs)
        return y if act == fused else self.activation(f"{name}_act", y, act)

    def conv(
        self, name: str, x: Tensor, cout: int, *, kernel: int = 1, stride: int = 1, act: str | None = None, norm: bool = True
    ) -> Tensor:
        """Append a convolution ``kernel`` x ``kernel``, with BatchNorm or (``norm=False``) a bias, and ``act`` (None: none)."""
        return self._weighted("conv", name, x, cout, kernel, stride, act, norm, not norm)

    def depthwise(self, name: str, x: Tensor, kernel: int, *, stride: int = 1, act: str | None = None) -> Tensor:
        """Append a depthwise convolution ``kernel`` x ``kernel`` with BatchNorm, and ``act`` (None: none)."""
        return self._weighted("depthwise", name, x, x.channels, kernel, stride, act, True, False)

    def depthwise_stack(self, name: str, x: Tensor, kernel: int, *, stride: int = 1, act: str | None = None) -> Tensor:
        """3x3 depthwise convolutions that see as far as one of ``kernel``: the first has the stride, the last the
        BatchNorm and the activation, those before it neither (but in a superset, where any may be the last)."""
        last = max(1, (kernel - 1) // 2) - 1
        for i in range(last):
            step = stride if i == 0 else 1
            x = self._weighted("depthwise", f"{name}{i}", x, x.channels, 3, step, None, self.superset, False)
            if self.superset and act not in FUSED:
                x = self.activation(f"{name}{i}_act", x, act)
        return self._weighted("depthwise", f"{name}{last}", x, x.channels, 3, 1 if last else stride, act, True, False)

    def activation(self, name: str, x: Tensor, act: str | None) -> Tensor:
        """``hswish`` or ``swish`` as an op of its own."""
        if act not in ("hswish", "swish"):
            raise ValueError(f"activation {act!r}: must be one of {', '.join(ACTIVATIONS)}")
        return self._emit(name, act, (x,), x.channels, x.hw)

    def mean(self, name: str, x: Tensor) -> Tensor:
        """Global average pooling: ``[B, C, hw, hw] -> [B, C, 1, 1]``."""
        return self._emit(name, "mean", (x,), x.channels, 1)

    def maxpool(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        """Max pooling with a window of ``kernel``."""
        return self._emit(name, "maxpool", (x,), x.channels, -(-x.hw // stride), kernel=kernel, stride=stride)

    def squeeze_excite(self, name: str, x: Tensor, mid: int) -> Tensor:
        """Squeeze-and-excitation: x times a hard-sigmoid gate a channel."""
        with self.scope(name):
            gate = self.mean("mean", x)
            gate = self.conv("reduce", gate, mid, act="relu", norm=False)
            gate = self.conv("gate", gate, x.channels, act="hsigmoid", norm=False)
            return self._emit("mul", "mul", (x, gate), x.channels, x.hw)

    def residual(self, name: str, x: Tensor, h: Tensor, stride: int, act: str | None = None, forced: bool = True) -> Tensor:
        """``act(h + shortcut(x))``: the identity where the shapes agree, else (when ``forced``) a 1x1 conv + BN
        of the block's stride; with neither, ``h`` as it is."""
        same = stride == 1 and x.channels == h.channels
        if not same and not forced and not self.superset:
            return h
        if forced and (not same or self.superset):
            x = self.conv(f"{name}_conv", x, h.channels, stride=stride)
        elif not same:
            x = h  # a superset's sum that smaller subnets have
        fused = act if act in FUSED else None
        y = self._emit(name, "add", (h, x), h.channels, h.hw, act=fused)
        return y if act == fused else self.activation(f"{name}_act", y, act)
