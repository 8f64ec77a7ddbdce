"""Chains of one op, whose latency is that of the op: what a longer chain takes beyond a shorter one, an op.

What a call costs beside its ops (the input quantized, the output copied) is the same for both and cancels.
"""

from __future__ import annotations

from collections.abc import Callable

from spaceevo.errors import bad_choice
from spaceevo.space.graph import Graph, GraphBuilder, Tensor, round8

#: Ops of the shorter and of the longer chain.
SHORT, LONG = 1, 9
#: Of the paper's figure 2(b): the feature map's size, and channels out for each in.
HW, EXPAND = 28, 4
Emit = Callable[[GraphBuilder, str, Tensor], Tensor]


def _pair(g: GraphBuilder, name: str, x: Tensor) -> Tensor:
    h = g.conv(f"{name}.expand", x, EXPAND * x.channels, act="relu")
    return g.conv(f"{name}.project", h, x.channels)


#: By name: an op that leaves its input's shape as it is. An activation that a runtime fuses is the convolution's own.
CHAINED: dict[str, Emit] = {
    "conv": lambda g, name, x: g.conv(name, x, x.channels, kernel=3, act="relu"),
    "depthwise": lambda g, name, x: g.depthwise(name, x, 3, act="relu"),
    "se": lambda g, name, x: g.squeeze_excite(name, x, round8(x.channels // 4)),
    "hswish": lambda g, name, x: g.activation(name, x, "hswish"),
    "swish": lambda g, name, x: g.activation(name, x, "swish"),
    "conv1x1": _pair,
}


def chain_graph(op: str, channels: int, length: int, hw: int = HW) -> Graph:
    """``length`` times the op on ``[B, channels, hw, hw]``. ``conv`` and ``depthwise`` are 3x3 with a ReLU, ``se`` squeezes to
    a quarter, ``conv1x1`` is a pair: to ``EXPAND`` times the channels, with a ReLU, and back.

    Raises:
        UserError: no such op.
    """
    if op not in CHAINED:
        raise bad_choice("op", op, CHAINED)
    g = GraphBuilder(channels, hw)
    x = g.x
    for i in range(length):
        x = CHAINED[op](g, f"{op}{i}", x)
    return g.graph
