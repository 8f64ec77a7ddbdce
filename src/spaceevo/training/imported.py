"""A released supernet as the beginning of one of ours: with a new head for other images, and quantizers that runtimes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from spaceevo.errors import bad_value
from spaceevo.nn.elastic import Elastic, Quantizer, Stats
from spaceevo.nn.evaluate import ImageSource, calibrate, logits, resized
from spaceevo.nn.lsq import ACT_MAX
from spaceevo.space import Graph, SearchSpace, superset_graph
from spaceevo.space.build import CLASSIFIER
from spaceevo.space.graph import INPUT
from spaceevo.training.authors import ENDS, check_state, read_state
from spaceevo.training.released import Released, released
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
    ranges: dict[str, tuple[float, float]] = {}
    for op in superset_graph(space).ops:
        if op.name in learned:
            sw, sa, beta = learned[op.name]
            net.ops_by_name[op.name].weight_scale.set(sw * 2 ** (WEIGHT_BITS - quantizer.weight_bits))
            ranges.setdefault(op.inputs[0], (beta, beta + ACT_MAX * sa))
    for name, (low, high) in ranges.items():
        if name != INPUT and hasattr(net.ops_by_name[name], "output"):
            net.ops_by_name[name].output.set_range(low, high, quantizer.symmetric)


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


@torch.no_grad()
def agreement(
    found: Released, net: Elastic, graph: Graph, quantizer: Quantizer, calibration: ImageSource, images: ImageSource
) -> tuple[float, float]:
    """Percent of ``images`` to which ``net``, fake-quantized, gives the label that the released supernet gives in the authors'
    own arithmetic: with its BatchNorm statistics, and with those recalibrated on ``calibration``."""
    int8 = bool(found.learned)
    theirs = torch.cat([found.forward(x, graph, int8) for x in resized(images, graph.input.hw)]).argmax(1)
    stored = found.stats_of(graph)
    anew = calibrate(net, graph, resized(calibration, graph.input.hw), quantizer)
    return _same(net, graph, stored, images, quantizer, theirs), _same(net, graph, anew, images, quantizer, theirs)


def _same(net: Elastic, graph: Graph, stats: Stats, images: ImageSource, quantizer: Quantizer, theirs: Tensor) -> float:
    return 100 * float((logits(net, graph, stats, images, quantizer).argmax(1) == theirs).float().mean())
