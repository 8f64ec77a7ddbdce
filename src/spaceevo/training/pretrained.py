"""Networks that others trained on ImageNet: files of their weights as op graphs and weights of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spaceevo.errors import UserError
from spaceevo.nn.elastic import BN_EPS, Stats
from spaceevo.space.build import CLASSIFIER
from spaceevo.space.graph import Graph, Op
from spaceevo.space.imagenet import IMAGENET, imagenet_graph
from spaceevo.training.states import BATCHES, NORM, read_state, unlike

PIXEL = 255
UNEVEN = 1000  # times that a channel's weights may reach less far than the others', and be made to reach as far
NOTHING = 1e-30  # how far weights reach that are all 0


@dataclass(frozen=True)
class Form:
    """How a package keeps a family of networks, and how it was trained.

    Attributes:
        ends: the keys of a layer and of its BatchNorm by the name of our op; no BatchNorm: None.
        blocks: the same by the op's name within its block; ``{stage}`` and ``{block}`` count from 1 and 0, ``{number}`` counts
            the blocks of all stages from 0, ``{after}`` from 1.
        eps: what its BatchNorms add to the variance.
        padding: one of ``space.graph.PADDINGS``.
        mean, std: of the normalized images' channels, of values from 0 to 1.
    """

    ends: Mapping[str, tuple[str, str | None]]
    blocks: Mapping[str, tuple[str, str]]
    eps: float
    padding: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _torchvision(ends: Mapping[str, tuple[str, str | None]], blocks: Mapping[str, tuple[str, str]]) -> Form:
    return Form(ends, blocks, eps=1e-5, padding="symmetric", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


#: By the beginning of the networks' names: of PyPI's efficientnet-lite-pytorch (weights of TensorFlow's), and of torchvision.
FORMS = {
    "efficientnet_lite": Form(
        {
            "stem": ("_conv_stem", "_bn0"),
            "head.final_expand": ("_conv_head", "_bn1"),
            CLASSIFIER: ("_fc", None),
        },
        {
            "expand": ("_blocks.{number}._expand_conv", "_blocks.{number}._bn0"),
            "depthwise": ("_blocks.{number}._depthwise_conv", "_blocks.{number}._bn1"),
            "project": ("_blocks.{number}._project_conv", "_blocks.{number}._bn2"),
        },
        eps=1e-3,
        padding="same",
        mean=(127 / PIXEL,) * 3,
        std=(128 / PIXEL,) * 3,
    ),
    "mobilenet_v2": _torchvision(
        {
            "stem": ("features.0.0", "features.0.1"),
            "stage1.0.depthwise": ("features.1.conv.0.0", "features.1.conv.0.1"),
            "stage1.0.project": ("features.1.conv.1", "features.1.conv.2"),
            "head.final_expand": ("features.18.0", "features.18.1"),
            CLASSIFIER: ("classifier.1", None),
        },
        {
            "expand": ("features.{after}.conv.0.0", "features.{after}.conv.0.1"),
            "depthwise": ("features.{after}.conv.1.0", "features.{after}.conv.1.1"),
            "project": ("features.{after}.conv.2", "features.{after}.conv.3"),
        },
    ),
    "resnet": _torchvision(
        {"stem": ("conv1", "bn1"), CLASSIFIER: ("fc", None)},
        {
            **{
                ours: (f"layer{{stage}}.{{block}}.conv{i}", f"layer{{stage}}.{{block}}.bn{i}")
                for ours, i in (("conv1", 1), ("conv2", 2), ("reduce", 1), ("conv", 2), ("project", 3))
            },
            "shortcut_conv": ("layer{stage}.{block}.downsample.0", "layer{stage}.{block}.downsample.1"),
        },
    ),
}

READ = [name for name in IMAGENET if name.startswith(tuple(FORMS))]


@dataclass(frozen=True)
class Layer:
    """A layer of such a file: its key, that of its BatchNorm (None: it has a bias instead), and its op."""

    key: str
    norm: str | None
    op: Op

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Key and shape of every tensor, but for counts of batches."""
        yield f"{self.key}.weight", self.op.weight_shape if self.norm else self.op.weight_shape[:2]
        if self.norm is None:
            yield f"{self.key}.bias", (self.op.cout,)
        else:
            yield from ((f"{self.norm}.{name}", (self.op.cout,)) for name in NORM)


@dataclass(frozen=True)
class Pretrained:
    """A network with the weights of a file.

    Attributes:
        state: weights, and BatchNorms' gains and shifts (for our ``BN_EPS``), by the names that ``Elastic`` has for them.
        stats: BatchNorm statistics by op.
        padding: what the weights were trained with.
        mean, std: of images that it takes, of values from 0 to 1.
    """

    name: str
    graph: Graph
    state: dict[str, Tensor]
    stats: Stats
    padding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def form_of(name: str) -> Form:
    """How files of the network ``name``, one of ``READ``, are."""
    return next(form for family, form in FORMS.items() if name.startswith(family))


def layers_of(name: str, graph: Graph) -> list[Layer]:
    """The layers of such a file of the network ``name``, whose ``graph`` this is."""
    form, found, blocks = form_of(name), [], dict[str, int]()
    for op in graph.ops:
        if not op.has_weight:
            continue
        scope, _, part = op.name.rpartition(".")
        if op.name in form.ends:
            key, norm = form.ends[op.name]
        else:
            key, norm = form.blocks[part]
        if scope.startswith("stage"):
            number, (stage, block) = blocks.setdefault(scope, len(blocks)), scope.removeprefix("stage").split(".")
            names = dict(stage=stage, block=block, number=number, after=number + 1)
            key, norm = key.format(**names), norm and norm.format(**names)
        found.append(Layer(key, norm, op))
    return found


def pretrained(path: Path, hw: int) -> Pretrained:
    """The network whose weights are in the file at ``path``, known by its keys, for images of ``hw`` x ``hw``.

    Raises:
        UserError: the file is not readable, or not of a network that is known: which keys are missing or too many, of another
            shape, or not finite.
    """
    state = {key: value for key, value in read_state(path, "from").items() if not key.endswith(f".{BATCHES}")}
    wanted = {name: dict(_tensors(layers_of(name, imagenet_graph(name, hw)))) for name in READ}
    name, shared = max(((name, _shared(state, keys)) for name, keys in wanted.items()), key=lambda pair: pair[1])
    if shared == 0:
        raise UserError(f"from={path}: weights of no network that is known; there are: {', '.join(READ)}")
    head = state.get(f"{form_of(name).ends[CLASSIFIER][0]}.bias")
    graph = imagenet_graph(name, hw, 1000 if head is None or head.dim() != 1 else len(head))
    layers = layers_of(name, graph)
    wrong = unlike(state, dict(_tensors(layers)))
    if wrong is not None:
        raise UserError(f"from={path}: not weights of {name}: {wrong}")
    return _ours(name, graph, layers, state)


def _tensors(layers: list[Layer]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer in layers:
        yield from layer.tensors()


def _shared(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> float:
    """How much of ``state`` and ``wanted`` is the same: keys, and of these with the same shapes, of all there are in either."""
    same = sum((key in state) + (key in state and tuple(state[key].shape) == shape) for key, shape in wanted.items())
    return same / len(wanted.keys() | state.keys())


def _ours(name: str, graph: Graph, layers: list[Layer], state: Mapping[str, Tensor]) -> Pretrained:
    """``state``, which is one of ``name``, in our terms: it gives the same, but for an image's border (``_of_images``)."""
    form, weights, stats = form_of(name), dict[str, Tensor](), Stats()
    for layer in layers:
        prefix, op = f"body.{layer.op.name}", layer.op
        weights[f"{prefix}.weight"] = state[f"{layer.key}.weight"].float().view(op.weight_shape).clone()
        if layer.norm is None:
            weights[f"{prefix}.shift"] = state[f"{layer.key}.bias"].float()
            continue
        gain, shift, mean, var = (state[f"{layer.norm}.{part}"].float() for part in NORM)
        by = _evening(weights[f"{prefix}.weight"])
        weights[f"{prefix}.weight"] *= by[:, None, None, None]
        stats[op.name] = mean * by, var * by.square()
        weights[f"{prefix}.gain"] = gain * ((var * by.square() + BN_EPS) / (var + form.eps)).sqrt() / by
        weights[f"{prefix}.shift"] = shift
    centre, spread = round(sum(form.mean) / 3 * PIXEL) / PIXEL, sum(form.std) / 3
    stem = graph.ops[0].name
    weights[f"body.{stem}.weight"], lacking = _of_images(weights[f"body.{stem}.weight"], form, centre, spread)
    stats[stem] = stats[stem][0] - lacking, stats[stem][1]
    return Pretrained(name, graph, weights, stats, form.padding, (centre,) * 3, (spread,) * 3)


def _evening(weight: Tensor) -> Tensor:
    """By how much to multiply each output channel ``[cout]`` of a convolution, whose BatchNorm undoes it: then all reach as
    far, and the one scale that our quantizers have for a weight is as good as one a channel."""
    reach = weight.abs().amax((1, 2, 3)).clamp(min=NOTHING)
    return reach.mean() / reach.clamp(min=float(reach.mean()) / UNEVEN)


def _of_images(weight: Tensor, form: Form, mean: float, std: float) -> tuple[Tensor, Tensor]:
    """The first convolution's ``weight`` ``[cout, 3, k, k]`` for images normalized by one ``mean`` and ``std``, as files that
    take pixels need them, and what its output ``[cout]`` lacks then. At the border it lacks something else: the network was
    trained with zeros around images of its own normalization, and they are of another colour here."""
    means, stds = torch.tensor(form.mean), torch.tensor(form.std)
    lacking = (weight.sum((2, 3)) * ((mean - means) / stds)).sum(1)
    return weight * (std / stds)[None, :, None, None], lacking
