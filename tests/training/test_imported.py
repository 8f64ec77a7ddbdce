"""What the import of a released supernet changes, and what each change costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, subnet_graph, superset_graph
from spaceevo.training.imported import as_released, costs, with_whole_zeros
from spaceevo.training.released import Released
from spaceevo.training.supernet import init_qat, make_supernet

QUANTIZER = Quantizer(8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(images: Tensor) -> Released:
    """A supernet of random weights as the authors would release it: no zero point is a whole number of steps."""
    torch.manual_seed(0)
    space = SearchSpace.parse("tiny-1212-0000", load_hyperspace("tiny", 1, 10))
    net = make_supernet(space, (0.0, 1.0))
    init_qat(net, space, images, QUANTIZER, 0)
    written = as_released(net.eval(), space, QUANTIZER, images)
    return replace(written, learned={name: (sw, sa, beta + 0.4 * sa) for name, (sw, sa, beta) in written.learned.items()})


def test_a_tensor_has_one_range_whose_zero_point_is_whole(found: Released) -> None:
    whole, ranges = with_whole_zeros(found).learned, {}
    for op in superset_graph(found.space).ops:
        if op.name in whole:
            sw, sa, beta = whole[op.name]
            assert sw == found.learned[op.name][0] and beta / sa == pytest.approx(round(beta / sa), abs=1e-6)
            assert ranges.setdefault(op.inputs[0], (sa, beta)) == (sa, beta)


def test_every_change_is_on_top_of_those_before_it(found: Released, images: Tensor) -> None:
    graph = subnet_graph(Subnet.largest(found.space))
    scores = found.forward(images, graph, True)
    labels = scores.argmax(1)
    told = costs(found, found.net, graph, QUANTIZER, images, images, labels)
    names = ["as released", "whole zero points", "a range for every tensor", "BatchNorm statistics recalibrated"]
    assert [cost.what for cost in told] == names and told[0].agreement == told[0].top1 == 100
    assert all(cost.agreement == cost.top1 for cost in told)  # the labels are the released one's
    whole = with_whole_zeros(found).forward(images, graph, True)
    assert not torch.equal(whole, scores)
    assert told[1].agreement == pytest.approx(100 * float((whole.argmax(1) == labels).float().mean()))
    trained = costs(found, found.net, graph, QUANTIZER, images, images, labels, trained=True)
    assert trained == [told[0], told[-1]]


def test_of_a_file_in_full_precision_no_zero_points_are_rounded(found: Released, images: Tensor) -> None:
    plain, graph = replace(found, learned={}), subnet_graph(Subnet.smallest(found.space))
    told = costs(plain, found.net, graph, QUANTIZER, images, images, torch.zeros(64, dtype=torch.long))
    assert [cost.what for cost in told] == ["as released", "a range for every tensor", "BatchNorm statistics recalibrated"]
