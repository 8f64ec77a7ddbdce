"""Networks of the literature are those networks; chains are an op many times."""

from __future__ import annotations

import csv

import pytest
import torch
import torchvision
from space.test_published import PUBLISHED, needs_tables

from spaceevo.errors import UserError
from spaceevo.space import graph_cost, published_models
from spaceevo.space.chains import CHAINED, EXPAND, LONG, SHORT, chain_graph
from spaceevo.space.imagenet import IMAGENET, RESOLUTION, imagenet_graph
from spaceevo.space.published import table_1

#: As their papers print them, for want of torchvision's: millions of parameters.
PRINTED = {
    "mobilenet_v4_small": 3.8, "efficientnet_lite0": 4.7, "efficientnet_lite1": 5.4, "efficientnet_lite2": 6.1,
    "efficientnet_lite3": 8.2, "efficientnet_lite4": 13.0,
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGENET)
def test_a_network_has_the_parameters_of_the_original(name: str) -> None:
    params = graph_cost(imagenet_graph(name)).params
    if name in PRINTED:
        assert round(params / 1e6, 1) == PRINTED[name]
        return
    with torch.device("meta"):
        original = torchvision.models.get_model(name)
    assert params == sum(parameter.numel() for parameter in original.parameters())


@pytest.mark.parametrize("name", IMAGENET)
def test_a_network_has_the_multiply_adds_that_table_1_prints(name: str) -> None:
    mmacs = graph_cost(imagenet_graph(name)).mmacs
    rows = table_1(name)
    assert set(rows) in (set(), {"intel_vnni", "pixel4"})
    assert all(mmacs == pytest.approx(row["mmacs"], rel=0.02) for row in rows.values())


def test_a_smaller_network_reads_smaller_images_with_the_same_weights() -> None:
    large, small = imagenet_graph("efficientnet_b0"), imagenet_graph("efficientnet_b0", 64, classes=10)
    assert (large.input.hw, small.input.hw) == (RESOLUTION, 64)
    assert [op.weight_shape for op in large.ops[:-1]] == [op.weight_shape for op in small.ops[:-1]]
    assert small.output.channels == 10


def test_a_network_or_an_op_that_there_is_not_is_named() -> None:
    with pytest.raises(UserError, match=r"^network=resnet19: no such network; there are: .*\(did you mean resnet18.*\?\)"):
        imagenet_graph("resnet19")
    with pytest.raises(UserError, match=r"^op=relu: no such op; there are: conv, "):
        chain_graph("relu", 8, 1)


@pytest.mark.parametrize("op", CHAINED)
def test_a_longer_chain_is_the_same_op_more_often(op: str) -> None:
    one, many = (chain_graph(op, 16, length) for length in (SHORT, LONG))
    kinds = [(o.kind, o.weight_shape, o.stride, o.act) for o in one.ops]
    assert [(o.kind, o.weight_shape, o.stride, o.act) for o in many.ops] == LONG * kinds
    assert one.output.channels == many.output.channels == 16 and one.output.hw == many.output.hw == 28
    assert LONG * graph_cost(one).mmacs == pytest.approx(graph_cost(many).mmacs)
    if op == "conv1x1":  # the paper's figure 2(b): Cout = 4 Cin
        assert one.ops[0].weight_shape == (EXPAND * 16, 16, 1, 1)


@needs_tables
def test_rows_of_table_1_are_as_printed() -> None:
    with open(PUBLISHED / "table1.csv") as file:
        printed = {(row["device"], row["model"].lower().replace("cpu", "vnni")): row for row in csv.DictReader(file)}
    found = 0
    for name in (*IMAGENET, *published_models()):
        for device, row in table_1(name).items():
            by = {"efficientnet_b0": "efficientnet-b0"}.get(name, name.lower().replace("_", ""))
            theirs = printed[device, by]
            assert row == {key: float(theirs["mflops" if key == "mmacs" else key]) for key in row}
            found += 1
    assert found == 14
