"""The classifier of a network whose other weights stay: logistic regression on its features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.nn.elastic import Elastic
from spaceevo.nn.evaluate import ImageSource, calibrate, resized
from spaceevo.space import Graph

STEPS = 100  # of L-BFGS: it has long arrived


@torch.no_grad()
def features(net: Elastic, graph: Graph, images: ImageSource, calibration: Tensor) -> Tensor:
    """What the classifier reads of ``images`` ``[N, C, H, W]``, in full precision: ``[N, features]``. BatchNorm statistics are
    those of ``calibration`` ``[N, C, H, W]``."""
    stats = calibrate(net, graph, resized(calibration, graph.input.hw))
    (read,) = graph.ops[-1].inputs
    found = []
    for x in resized(images, graph.input.hw):
        record: dict[str, Tensor] = {}
        net(x, graph, stats=stats, record=record)
        found.append(record[read].flatten(1))
    return torch.cat(found)


def fit_classifier(
    net: Elastic, graph: Graph, images: ImageSource, labels: Tensor, calibration: Tensor, penalty: float
) -> None:
    """Set the weights of ``graph``'s last op to those of least cross entropy on ``images`` with ``labels`` ``[N]``, and with
    ``penalty`` times the squared weights of standardized features."""
    x = features(net, graph, images, calibration)
    spread, mean = torch.std_mean(x, 0)
    x = (x - mean) / spread.clamp(min=1e-6)
    classes = graph.ops[-1].cout
    weight, bias = torch.zeros(classes, x.shape[1], requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), labels) + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    own = net.ops_by_name[graph.ops[-1].name]
    with torch.no_grad():
        scaled = weight / spread.clamp(min=1e-6)
        own.weight.copy_(scaled[:, :, None, None])
        own.shift.copy_(bias - scaled @ mean)
