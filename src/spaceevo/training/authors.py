"""The files of the supernets that the paper's authors released: what their layers are called, and whether one is whole.

A file is ``torch.save`` of a dict whose ``state_dict`` holds a supernet's tensors: weights (the leading slices of the largest
serve every subnet, kernels their centre), BatchNorm with its statistics, and after their quantization-aware training a scale
``sw`` of each layer's weight and ``sa``, ``beta`` of its input. A layer's input is there
``round(clip((x - beta) / |sa|, 0, 255)) * |sa| + beta`` and its weight ``round(clip(w / |sw|, -128, 127)) * |sw|``; all else
stays float. ``beta`` is no multiple of ``sa``, and no runtime holds such a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from spaceevo.errors import UserError
from spaceevo.space import SearchSpace, Subnet, published_spaces, superset_graph
from spaceevo.space.build import CLASSIFIER, stage_graph
from spaceevo.space.graph import Op
from spaceevo.training.states import BATCHES, NORM, unlike

LEARNED = ("sw", "sa", "beta")

_SE = {"se.reduce": "se.fc.reduce", "se.gate": "se.fc.expand"}
_ENDS = {"expand": "point_conv1.conv", "project": "point_conv2.conv"}
_MB = {**_ENDS, "depthwise": "depth_conv.dwconv"}
_STACK = {**_ENDS, **{f"depthwise{i}": f"depth_conv.dwconv.dwconv{i}" for i in range(3)}}
_BOTTLENECK = {"reduce": "conv1.conv", "conv": "conv2.conv", "project": "conv3.conv"}
_FUSED = {"expand": "fused_conv.conv", "project": "point_conv.conv"}
_DUAL = {
    "depthwise1": "depth_conv1.dwconv", "pointwise1": "point_conv1.conv",
    "depthwise2": "depth_conv2.dwconv", "pointwise2": "point_conv2.conv",
}  # fmt: skip
#: What the layers of a block are called there, by the names of our ops.
LAYERS: dict[str, dict[str, str]] = {
    "mbv1_dual": _DUAL, "mbv2": _MB, "mbv3": _MB | _SE, "mbv2_k3": _STACK, "mbv3_k3": _STACK | _SE,
    "residual_bottleneck": _BOTTLENECK, "residual_bottleneck_se": _BOTTLENECK | _SE,
    "fused_mb": _FUSED, "fused_mb_se": _FUSED | _SE,
}  # fmt: skip
ENDS = {
    "stem": "stages.first_conv.blocks.0.conv.conv",
    "head.final_expand": "stages.final_expand.blocks.0.conv.conv",
    "head.feature_mix": "stages.feature_mix.blocks.0.conv.conv",
    CLASSIFIER: "stages.logits.blocks.0.linear",
}


@dataclass(frozen=True)
class Layer:
    """A layer of a released supernet: its key, that of its BatchNorm (None: it has a bias instead), and its op at its full
    size, of which ours may be a part: a first block there takes every width of the hyperspace's stage before."""

    key: str
    norm: str | None
    op: Op

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self.op.weight_shape[:2] if self.op.name == CLASSIFIER else self.op.weight_shape

    def tensors(self, learned: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Key and shape of every tensor; ``learned``: those of quantizers too."""
        yield f"{self.key}.weight", self.shape
        if self.norm is None:
            yield f"{self.key}.bias", (self.op.cout,)
        if learned:
            yield from ((f"{self.key}.{name}", (1,)) for name in LEARNED)
        if self.norm is not None:
            yield from ((f"{self.norm}.{name}", (self.op.cout,)) for name in NORM)
            yield f"{self.norm}.{BATCHES}", ()


def layers_of(space: SearchSpace) -> dict[str, Layer]:
    """The layers of a released supernet of ``space``, by the names of our ops.

    Raises:
        UserError: the authors have no supernet with such blocks, or such a stem.
    """
    found = {}
    for op in _full_ops(space):
        if op.has_weight:
            key = _key(op.name, space)
            found[op.name] = Layer(key, _norm(key, op), op)
    return found


def _full_ops(space: SearchSpace) -> Iterator[Op]:
    """The ops of the superset, each as large as it is there."""
    largest, hs = Subnet.largest(space), space.hyperspace
    widths = [max(hs.stem.widths)]  # what a stage takes: of the fixed one what it has, of a searched one all its widths
    widths += [max(stage.widths) for stage in space.all_stages if stage.name == "stage0"]
    widths += [max(stage.widths) for stage in hs.stages]
    wide: dict[str, Op] = {}
    for stage, blocks, cin in zip(space.all_stages, largest.stages, widths, strict=False):
        wide |= {op.name: op for op in stage_graph(stage, blocks, cin, 8, superset=True).ops}
    for op in superset_graph(space).ops:
        yield replace(op, cin=widths[-1]) if op.name == "head.final_expand" else wide.get(op.name, op)


def _key(name: str, space: SearchSpace) -> str:
    """The key of the layer that is our op ``name``."""
    if name in ENDS:
        return ENDS[name]
    found = re.fullmatch(r"(stage\d+)\.(\d+)\.(.+)", name)
    stages = {stage.name: stage for stage in space.all_stages}
    if found is None or found[1] not in stages or stages[found[1]].block.type not in LAYERS:
        raise UserError(f"space={space}: the authors have no supernet with {name}")
    layers = LAYERS[stages[found[1]].block.type] | {"shortcut_conv": "downsample.conv"}
    return f"stages.{found[1]}.blocks.{found[2]}.{layers[found[3]]}"


def _norm(key: str, op: Op) -> str | None:
    """The key of the BatchNorm behind a layer: beside it, and of a stack of depthwise convolutions one for all."""
    if not op.norm:
        return None
    block, blocks, rest = key.rpartition(".blocks.")
    number, layer, *_ = rest.split(".")
    return f"{block}{blocks}{number}.{layer}.norm"


def check_state(path: Path, state: Mapping[str, Tensor], space: SearchSpace) -> None:
    """Whether ``state`` is a supernet of ``space``, in FP32 or quantization-aware.

    Raises:
        UserError: which other published space it is of, which keys are missing or too many, of another shape, or not finite.
    """
    wrong = _wrong(state, space)
    if wrong is None:
        return
    for name, encoding in published_spaces().items():
        other = SearchSpace.parse(encoding, space.hyperspace if encoding.startswith(f"{space.hyperspace.name}-") else None)
        if str(other) != str(space) and _wrong(state, other) is None:
            raise UserError(f"path={path}: a supernet of space={name} ({encoding}), not of {space}")
    raise UserError(f"path={path}: not a supernet of {space}: {wrong}")


def _wrong(state: Mapping[str, Tensor], space: SearchSpace) -> str | None:
    """In what ``state`` is not a supernet of ``space``."""
    learned = any(key.endswith(f".{LEARNED[0]}") for key in state)
    return unlike(state, dict(pair for layer in layers_of(space).values() for pair in layer.tensors(learned)))
