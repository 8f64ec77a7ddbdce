"""A released supernet as the beginning of one of ours: with a new head for other images, and quantizers that runtimes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spaceevo.errors import bad_value
from spaceevo.nn.elastic import Elastic, Quantizer
from spaceevo.nn.evaluate import ImageSource, calibrate, logits, recalibrated, resized, top1
from spaceevo.nn.scheme import ACT_MAX
from spaceevo.space import Graph, SearchSpace, superset_graph
from spaceevo.space.build import CLASSIFIER
from spaceevo.space.graph import INPUT
from spaceevo.training.authors import ENDS, check_state
from spaceevo.training.released import Released, released
from spaceevo.training.states import read_state
from spaceevo.training.supernet import make_supernet

WEIGHT_BITS = 8  # of what the authors trained


def begin(path: Path, space: SearchSpace, input_range: tuple[float, float], padding: str) -> tuple[Released, bool]:
    """The released supernet at ``path`` as one of ``space``, for the images of its hyperspace: with a new head where these have
    other classes. ``input_range``, ``padding``: as of :class:`spaceevo.nn.elastic.Elastic`.

    Returns:
        It, and whether its head is the one it came with.

    Raises:
        UserError: it is no supernet of ``space``, or takes images of other channels.
    """
    state, theirs = checked(path, space)
    found = released(state, theirs, padding)
    same = theirs.hyperspace.classes == space.hyperspace.classes
    if not same:
        own = make_supernet(space, input_range, padding)
        kept = {name: value for name, value in found.net.state_dict().items() if CLASSIFIER not in name.split(".")}
        own.load_state_dict(own.state_dict() | kept)
        learned = {name: value for name, value in found.learned.items() if name != CLASSIFIER}
        found = replace(found, space=space, net=own.eval(), learned=learned)
    found.net.input.set_range(*input_range)
    return found, same


def checked(path: Path, space: SearchSpace) -> tuple[dict[str, Tensor], SearchSpace]:
    """The tensors of the released supernet at ``path``, and ``space`` with the classes that it was trained on.

    Raises:
        UserError: as :func:`begin`.
    """
    state, hs = read_state(path), space.hyperspace
    head, stem = (state.get(f"{ENDS[name]}.weight", torch.empty(0, 0)) for name in (CLASSIFIER, "stem"))
    if stem.dim() == 4 and stem.shape[1] != hs.channels:
        raise bad_value("data.channels", hs.channels, f"{stem.shape[1]}, as {path} takes images")
    theirs = SearchSpace.parse(str(space), hs.with_task(hs.channels, len(head) or hs.classes))
    check_state(path, state, theirs)
    return state, theirs


def hold_learned(
    net: Elastic, space: SearchSpace, learned: Mapping[str, tuple[float, float, float]], quantizer: Quantizer
) -> None:
    """Give the quantizers of ``net`` what those of a released supernet learned, ``(sw, sa, beta)`` by op: a tensor has the
    range of the first layer that takes it, its zero point a whole number of steps. Tensors that no layer takes (sums before an
    activation, what is added) stay as they are."""
    for name, (sw, _, _) in learned.items():
        net.ops_by_name[name].weight_scale.set(sw * 2 ** (WEIGHT_BITS - quantizer.weight_bits))
    for name, (sa, beta) in _first_taken(space, learned).items():
        if name != INPUT and hasattr(net.ops_by_name[name], "output"):
            net.ops_by_name[name].output.set_range(beta, beta + ACT_MAX * sa, quantizer.symmetric)


def _first_taken(space: SearchSpace, learned: Mapping[str, tuple[float, float, float]]) -> dict[str, tuple[float, float]]:
    """``(sa, beta)`` of each tensor that layers take, as the first of them takes it."""
    found: dict[str, tuple[float, float]] = {}
    for op in superset_graph(space).ops:
        if op.name in learned:
            found.setdefault(op.inputs[0], learned[op.name][1:])
    return found


def with_whole_zeros(found: Released) -> Released:
    """The released supernet in the authors' arithmetic, but with one range a tensor, of zero points that are whole numbers."""
    taken, whole = _first_taken(found.space, found.learned), {}
    for op in superset_graph(found.space).ops:
        if op.name in found.learned:
            sa, beta = taken[op.inputs[0]]
            whole[op.name] = found.learned[op.name][0], sa, round(beta / sa) * sa
    return replace(found, learned=whole)


@torch.no_grad()
def as_released(net: Elastic, space: SearchSpace, quantizer: Quantizer, images: Tensor) -> Released:
    """A supernet of ours, trained quantization-aware, as a released one: BatchNorm statistics over ``images``
    ``[N, C, H, W]`` of all ops at their largest; a layer's input is held as the tensor is that it takes."""
    superset = superset_graph(space)
    stats = calibrate(net, superset, resized(images, superset.input.hw), quantizer)
    learned = {}
    for op in superset.ops:
        if op.has_weight:
            sw = float(net.ops_by_name[op.name].weight_scale()) / 2 ** (WEIGHT_BITS - quantizer.weight_bits)
            x = op.inputs[0]
            held = net.input(quantizer.symmetric) if x == INPUT else net.output_quantizer(superset.op(x), quantizer)
            scale, zero = held
            learned[op.name] = sw, float(scale), -float(zero.round()) * float(scale)
    return Released(space, net, stats, learned)


@dataclass(frozen=True)
class Cost:
    """A subnet on its way from a released supernet to a file: as what it computes, for how many percent of the images it gives
    the label that it had in the authors' arithmetic, and its top-1 in percent."""

    what: str
    agreement: float
    top1: float

    def __str__(self) -> str:
        return f"{self.what}: {self.agreement:.1f} %, top-1 {self.top1:.1f} %"


@torch.no_grad()
def costs(
    found: Released,
    net: Elastic,
    graph: Graph,
    quantizer: Quantizer,
    calibration: ImageSource,
    images: ImageSource,
    labels: Tensor,
    trained: bool = False,
) -> list[Cost]:
    """What each change costs the subnet ``graph`` of ``found`` on ``images`` with their ``labels``, each on top of those before
    it, up to ``net``, fake-quantized, with its statistics over ``calibration``. Once ``net`` is ``trained`` on, its own ranges
    and zero points are not those of ``found``: that alone."""
    int8 = bool(found.learned)
    given = _scores(found, graph, int8, images)
    theirs, told = given.argmax(1), [("as released", given)]
    if not trained:
        if int8:
            told.append(("whole zero points", _scores(with_whole_zeros(found), graph, int8, images)))
        told.append(("a range for every tensor", logits(net, graph, found.stats_of(graph), images, quantizer)))
    own = recalibrated(net, graph, quantizer, calibration, images)
    told.append(("BatchNorm statistics recalibrated", own))
    return [Cost(what, top1(scores, theirs), top1(scores, labels)) for what, scores in told]


def _scores(found: Released, graph: Graph, int8: bool, images: ImageSource) -> Tensor:
    """``[N, classes]`` in the authors' arithmetic."""
    return torch.cat([found.forward(x, graph, int8) for x in resized(images, graph.input.hw)])
