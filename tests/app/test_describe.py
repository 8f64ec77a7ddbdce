"""``python -m spaceevo.describe``: what the paper's names stand for, and one line where there is no such name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import Command

from spaceevo.latency.domain import domain_of
from spaceevo.latency.predictor import Predictor, op_features
from spaceevo.latency.published import given
from spaceevo.space import SearchSpace, Subnet, load_hyperspace, published_model, subnet_graph


def picture(said: str, folder: Path) -> ET.Element:
    path = folder / said.rsplit("picture: ", 1)[1].strip()
    return ET.parse(path).getroot()


def test_a_space_is_described_with_its_stages_and_extremes(command: Command, tmp_path: Path) -> None:
    done = command("describe", "space=onnxw-151122-023231")
    assert done.returncode == 0, done.stderr
    space = SearchSpace.parse("onnxw-151122-023231")
    assert f"(spaceevo@vnni): {space.subnets:.3g} subnets" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("stage")][1:]
    assert [row[1] for row in rows] == [stage.block.type for stage in space.all_stages]
    for label, net in (("least", Subnet.smallest(space)), ("most", Subnet.largest(space))):
        row = next(line.split() for line in done.stdout.splitlines() if line.startswith(f"{label} "))
        assert float(row[2].replace(",", "")) == pytest.approx(net.cost().mmacs, abs=0.051)
        assert float(row[3]) == pytest.approx(net.cost().params / 1e6, abs=0.0051)
        assert float(row[4]) > 0
    texts = [text.text for text in picture(done.stdout, tmp_path).iter("{http://www.w3.org/2000/svg}text")]
    assert "64 to 80 of 32 to 96: fused_mb, swish" in texts


def test_a_model_is_described_layer_by_layer(command: Command, tmp_path: Path) -> None:
    done = command("describe", "model=SEQnet@vnni-A0")
    assert done.returncode == 0, done.stderr
    model = published_model("SEQnet@vnni-A0")
    graph = subnet_graph(Subnet.parse(SearchSpace.parse(model.space), model.subnet))
    layers = done.stdout.split("\ntotal: ")[0].splitlines()
    rows = {line.split()[0]: line.split() for line in layers if line[:1].isalpha()}
    mmacs = params = ms = 0.0
    for op in graph.ops:
        row = rows[op.name]
        assert row[1:4] == [op.kind, f"{op.cin}x{op.in_hw}x{op.in_hw}", f"{op.cout}x{op.out_hw}x{op.out_hw}"]
        ms += float(row[-1])
        if op.has_weight:
            mmacs, params = mmacs + float(row[-4]), params + int(row[-3].replace(",", ""))
    total = re.search(
        r"total: ([\d.]+) MMACs, ([\d,]+) parameters, ([\d,]+) bytes in INT8, ([\d.]+) ms on intel_vnni", done.stdout
    )
    assert total is not None
    assert float(total[1]) == pytest.approx(mmacs, abs=0.05) == pytest.approx(163.48, abs=0.05)
    assert int(total[2].replace(",", "")) == params and float(total[4]) == pytest.approx(ms, abs=0.02)
    assert "Table 1 says of SEQnet@vnni-A0: 163 MMACs, 4.4 ms in INT8" in done.stdout
    stages = done.stdout.split("\nstage ")[1].split("\n\nkernel ")[0].splitlines()[2:]
    parts = {line.split()[0]: [float(number) for number in re.findall(r"[\d.]+", line)[-4:]] for line in stages}
    assert [*parts] == ["stem", *(f"stage{i}" for i in range(7)), "head", "total"]
    whole = parts.pop("total")
    for i, accuracy in enumerate((0.002, 0.5, 0.05, 0.05)):  # ms, share, and the ends of the interval
        assert sum(part[i] for part in parts.values()) == pytest.approx(whole[i], abs=accuracy)
    kinds = done.stdout.split("\nkernel ")[1].split("\n\n")[0].splitlines()[2:]
    assert sum(float(line.split()[1]) for line in kinds) == pytest.approx(whole[0], abs=0.002)
    assert re.search(r"estimated from ops, not from known blocks: stem [\d.]+, stage0 [\d.]+, head [\d.]+ ms; how", done.stdout)
    assert re.search(r"\nSEQnet@vnni-A4 +24\.4 +[\d.]+ +[\d.]+ to [\d.]+ +yes +another model\n", done.stdout)
    assert "predicted in the order that Table 1 has them" in done.stdout
    assert picture(done.stdout, tmp_path).tag.endswith("svg")


def test_a_hyperspace_says_how_many_spaces_and_what_an_encoding_means(command: Command) -> None:
    done = command("describe", "hyperspace=mobilew")
    assert "hyperspace mobilew: 1,185,901,920 search spaces" in done.stdout
    assert "stage1: 6 is mbv2_k3, 1 is the widths 32,40" in done.stdout
    assert "spaceevo@pixel4 is mobilew-122222-155400" in done.stdout


def test_any_subnet_can_be_described_for_the_images_and_the_device_at_hand(command: Command, tmp_path: Path) -> None:
    space = SearchSpace.parse("small-5312-1020", load_hyperspace("small").with_task(1, 10))
    net = Subnet.largest(space)
    done = command("describe", f"space={space}", f"model={net}", "device=host", "data=fashion_mnist", "data.image_size=28")
    assert done.returncode == 0, done.stderr
    assert f"total: {net.cost().mmacs:.2f} MMACs, {net.cost().params:,} parameters" in done.stdout
    assert "device=host has no predictor here; name one with device.predictor=" in done.stdout
    phone = command("describe", f"space={space}", "device=pixel4")
    assert "ms on pixel4" in phone.stdout and "no ms" not in phone.stdout


def test_a_fitted_predictor_says_what_nine_of_ten_measure_and_that_it_extrapolates(command: Command, tmp_path: Path) -> None:
    space = SearchSpace.parse("small-5312-1020", load_hyperspace("small").with_task(3, 10))
    net, domain = Subnet.largest(space), domain_of([subnet_graph(Subnet.smallest(space))])
    names = {name for op in subnet_graph(net).ops for name in op_features(op)}
    known = Predictor({"int8": dict.fromkeys(names, 1e-6) | {"run": 0.01}}, interval=(0.9, 1.2), domain=domain)
    known.save(tmp_path / "predictor.json")
    ms = known.subnet_ms(net)
    asked = [f"space={space}", f"model={net}", "device=host", "device.predictor=predictor.json", "data=cifar10"]
    done = command("describe", *asked, "data.image_size=32")
    assert done.returncode == 0, done.stderr
    assert f"nine of ten such subnets measure between {0.9 * ms:.4g} and {1.2 * ms:.4g} ms" in done.stdout
    assert re.search(r"this prediction extrapolates: \S+ is a \S+", done.stdout) and "measured)" in done.stdout
    assert re.search(r"\ncall +0\.01 ", done.stdout) and "estimated from ops" not in done.stdout


@pytest.mark.parametrize("name", ["attentive_nas", "ofa_mbv3", "proxyless", "ofa_resnet50"])
def test_hand_designed_spaces_are_described_by_name(command: Command, name: str) -> None:
    done = command("describe", f"space={name}")
    assert done.returncode == 0 and f"search space {name}-" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model=d2"], "error: model=d2: no such model; there are: SEQnet@pixel4-A0"),
        (["model=d1#2_k3"], "error: model=d1#2_k3: a subnet's encoding needs the space that it is of; give space=... too"),
        (["model=SEQnet@vnni-A0", "out_dir=/"], "error: out_dir=/: must be a folder below the root of the file system"),
        (["model=SEQnet@vnni-A9"], "error: model=SEQnet@vnni-A9: no such model; there are: SEQnet@pixel4-A0"),
        (["space=spaceevo@cpu"], "error: space=spaceevo@cpu: no such space; there are: spaceevo@pixel4"),
        (["space=onnxw-151122-023239"], "error: space=onnxw-151122-023239: width windows: stage 6 is 9, must be from 0 to 3"),
        (["space=spaceevo@vnni", "model=d1#1"], "error: subnet=d1#1: must be d<depths>_k<kernels>_w<widths>_e<expands>_r"),
        (["hyperspace=onnxx"], "error: hyperspace=onnxx: no such hyperspace; there are:"),
    ],
)
def test_what_does_not_exist_is_one_line(command: Command, arguments: list[str], said: str) -> None:
    done = command("describe", *arguments)
    assert done.returncode == 2 and done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "within"), [("SEQnet@pixel4-A2", 0.1), ("SEQnet@pixel4-A4", 0.1), ("SEQnet@vnni-A2", 0.1)])
def test_shipped_predictors_come_near_the_latencies_of_table_1(name: str, within: float) -> None:
    """Models whose released encoding is the table's, or near it: stem, head and stage 0 are extrapolated."""
    model = published_model(name)
    space = SearchSpace.parse(model.space)
    predictor, scores = given("shipped", space.hyperspace.device, space.hyperspace, 0)
    ms = predictor.subnet_ms(Subnet.parse(space, model.subnet))
    assert ms == pytest.approx(model.paper["int8_ms"], rel=within)
    assert scores["within_10pct"] > 70
