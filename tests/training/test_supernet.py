"""The supernet in FP32 and as QAT, its checkpoints, and the quality of its subnets."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spaceevo.app.config import Config, compose
from spaceevo.data import Images, ImagesModule, input_range, normalize
from spaceevo.errors import UserError
from spaceevo.nn.elastic import Elastic, Quantizer, resize
from spaceevo.nn.evaluate import calibrate, logits, top1
from spaceevo.nn.lsq import zero_point
from spaceevo.nn.scheme import ACT_MAX
from spaceevo.space import SearchSpace, Subnet, subnet_graph, superset_graph
from spaceevo.steps.needs import hyperspace
from spaceevo.training.checkpoint import load_checkpoint, load_supernet, save_checkpoint, save_supernet
from spaceevo.training.fit import device_of, fit
from spaceevo.training.subnets import Part, SubnetEvaluator
from spaceevo.training.supernet import SupernetModule, init_qat, inplace_distillation, make_supernet

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
QUANT = Quantizer(8)
RECIPE = SimpleNamespace(
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    muon_lr=None,
    label_smoothing=0.0,
    random_paths=1,
    smallest=True,
    warmup=0.1,
    clip_norm=5.0,
    largest_first=0.0,
    dropout=0.0,
    schedule="cosine",
)


@cache
def tiny_config() -> Config:
    return compose("train", ["experiment=tiny"])


def tiny_space(code: str = "0121-0212") -> SearchSpace:
    return SearchSpace.parse(f"tiny-{code}", hyperspace(tiny_config()))


@cache
def images() -> Images:
    """Ten classes: a smooth picture each, with noise."""
    rng = torch.Generator().manual_seed(0)
    pictures = F.interpolate(torch.rand(10, 1, 4, 4, generator=rng), size=(16, 16), mode="bilinear")
    labels = torch.arange(320) % 10
    noisy = pictures[labels] + 0.25 * torch.randn(320, 1, 16, 16, generator=rng)
    pixels = (noisy.clamp(0, 1) * 255).to(torch.uint8)
    return Images(pixels[:256], labels[:256], pixels[256:], labels[256:])


def train_pixels() -> Tensor:
    return normalize(images().train, tiny_config().data)


def new_net(space: SearchSpace) -> Elastic:
    torch.manual_seed(0)
    return make_supernet(space, input_range(tiny_config().data))


def train(
    net: Elastic, space: SearchSpace, folder: Path, epochs: int, quantizer: Quantizer | None = None, **recipe: float
) -> None:
    data = ImagesModule(images(), tiny_config().data, 32, 0)
    settings = SimpleNamespace(**{**vars(RECIPE), **recipe})
    module = SupernetModule(net, space, settings, epochs * data.steps_per_epoch, 0, quantizer)
    fit(module, data, CPU, False, folder, epochs)


def accuracy(net: Elastic, subnet: Subnet, quantizer: Quantizer | None = None) -> float:
    graph = subnet_graph(subnet)
    x = normalize(images().val, tiny_config().data)
    stats = calibrate(net, graph, [torch.nn.functional.interpolate(train_pixels(), size=graph.input.hw)], quantizer)
    return top1(logits(net, graph, stats, x, quantizer), images().val_labels)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of a supernet after a short FP32 training."""
    net = new_net(tiny_space())
    train(net, tiny_space(), tmp_path_factory.mktemp("supernet"), 4)
    return net.state_dict()


@pytest.fixture
def net(pretrained: dict[str, Tensor]) -> Elastic:
    net = new_net(tiny_space())
    net.load_state_dict(pretrained)
    return net


def test_training_teaches_the_largest_and_the_smallest_subnet(net: Elastic) -> None:
    for subnet in (Subnet.largest(tiny_space()), Subnet.smallest(tiny_space())):
        assert accuracy(new_net(tiny_space()), subnet) < 50 < 80 < accuracy(net, subnet)


def test_qat_starts_from_scales_that_keep_the_accuracy_and_moves_them(net: Elastic, tmp_path: Path) -> None:
    space = tiny_space()
    init_qat(net, space, train_pixels()[:64], QUANT, 0)
    largest = Subnet.largest(space)
    assert accuracy(net, largest, QUANT) > 80
    before = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, space, tmp_path, 1, QUANT, lr=0.02)
    assert accuracy(net, largest, QUANT) > 80 and accuracy(net, Subnet.smallest(space), QUANT) > 80
    used = {f"body.{op.name}" for op in subnet_graph(largest).ops}
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    scales = {
        n for n in before if n.endswith(".ratio") and n.removesuffix(".ratio").rsplit(".", 1)[0].removesuffix(".output") in used
    }
    assert len(scales & moved) > 0.9 * len(scales), scales - moved
    assert any(name.endswith(".zero") for name in moved)
    assert not any(name.startswith("input.") for name in moved)  # images have a fixed range
    ways = torch.stack([(net.state_dict()[name] - 1).abs() for name in scales])
    assert (
        ways.max() < 0.7 and ways.median() > 3e-4
    )  # they learn: in some 20 steps by a median of 0.07 to 0.12 % (six trainings)


def test_init_qat_reaches_every_quantizer(net: Elastic) -> None:
    space = tiny_space()
    init_qat(net, space, train_pixels()[:32], QUANT, 0)
    for op in superset_graph(space).ops:
        for name, value in net.ops_by_name[op.name].named_parameters():
            if name.endswith(".ratio"):
                scale = net.ops_by_name[op.name].get_submodule(name.removesuffix(".ratio"))
                assert float(value.detach()) == 1 and float(scale.unit) != 1, f"{op.name}.{name}"
    for subnet in (make(space, r) for make in (Subnet.largest, Subnet.smallest) for r in space.hyperspace.resolutions):
        graph, record = subnet_graph(subnet), dict[str, Tensor]()
        with torch.no_grad():
            net(resize(train_pixels()[:32], graph.input.hw), graph, record=record)
            for op in graph.ops:  # hardly a value that these subnets reach is clipped: 1.3 % of the worst op
                scale, zero = net.output_quantizer(op, QUANT)
                q = record[op.name] / scale + zero_point(zero)
                assert ((q < -1) | (q > ACT_MAX + 1)).double().mean() < 0.02, op.name
    again = new_net(space)
    again.load_state_dict(net.state_dict())
    init_qat(again, space, train_pixels()[:32], QUANT, 0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_largest_first_trains_only_what_the_largest_path_uses(tmp_path: Path) -> None:
    space = SearchSpace.parse("tiny-0221-0022", hyperspace(tiny_config()))
    net, start = new_net(space), new_net(space).state_dict()
    train(net, space, tmp_path, 1, largest_first=1.0)
    used = {f"body.{op.name}" for op in subnet_graph(Subnet.largest(space)).ops}
    other = {name for name in start if name.endswith(".weight") and name.rsplit(".", 1)[0] not in used}
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, start[name])}
    assert other, "the space has shortcut convolutions that its largest subnet has no use for"
    assert changed and changed.isdisjoint(other)


def test_inplace_distillation_is_least_at_the_teachers_own_labels() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(6, 10)
    soft = teacher.softmax(1)
    by_hand = -(soft * teacher.log_softmax(1)).sum(1).mean()  # the entropy
    torch.testing.assert_close(inplace_distillation(teacher, teacher), by_hand)
    student = teacher.clone().requires_grad_()
    inplace_distillation(student, teacher).backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-7
    torch.testing.assert_close(inplace_distillation(torch.zeros(6, 10), teacher), torch.tensor(10.0).log())


# -- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_supernet_survives_the_disk(net: Elastic, tmp_path: Path) -> None:
    path = tmp_path / "supernet.ckpt"
    save_supernet(path, net, tiny_space(), top1_val=[1.0, 2.0])
    loaded, space = load_supernet(path, tiny_space().hyperspace)
    assert space == tiny_space()
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert load_checkpoint(path)["top1_val"] == [1.0, 2.0]
    once = path.read_bytes()
    save_supernet(path, net, tiny_space(), top1_val=[1.0, 2.0])
    assert path.read_bytes() == once


class Malicious:
    """Pickles to a call of ``os.system``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "bad.ckpt"
    content = {"space": str(tiny_space()), "state_dict": Malicious(mark)}
    path.write_bytes(pickle.dumps(content))
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the file does run code where it is unpickled"
    mark.unlink()
    for write in (lambda: path.write_bytes(pickle.dumps(content)), lambda: torch.save(content, path)):
        write()
        for load in (load_checkpoint, lambda p: load_supernet(p, tiny_space().hyperspace)):
            with pytest.raises(UserError, match="not a checkpoint"):
                load(path)
        assert not mark.exists()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(net: Elastic, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "supernet.ckpt"
    save_supernet(path, net, tiny_space())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(UserError, match=r"supernet\.ckpt: truncated or not a checkpoint"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.ckpt: No such file"):
        load_checkpoint(tmp_path / "absent.ckpt")


def test_a_supernet_of_another_space_is_refused(net: Elastic, tmp_path: Path) -> None:
    path, space = tmp_path / "supernet.ckpt", tiny_space()
    save_supernet(path, net, space)
    with pytest.raises(
        UserError, match=r"another search space, tiny-0121-0212: its hyperspace\.name is tiny, here it is other"
    ):
        load_supernet(path, replace(space.hyperspace, name="other"))
    with pytest.raises(UserError, match=r"its hyperspace\.stem\.widths is \[8\], here it is \[8, 16\]"):
        load_supernet(path, replace(space.hyperspace, stem=replace(space.hyperspace.stem, widths=(8, 16))))
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_checkpoint(path, {"space": "tiny-0021-0212", "state_dict": state})
    with pytest.raises(UserError, match=r"not a supernet of tiny-0021-0212 \(.*stage2"):
        load_supernet(path, space.hyperspace)


def test_a_checkpoint_of_something_else_is_no_supernet(tmp_path: Path) -> None:
    path = tmp_path / "teacher.ckpt"
    save_checkpoint(path, {"state_dict": {"weight": torch.ones(2)}, "variance": [torch.ones(2)]})
    with pytest.raises(UserError, match=r"teacher\.ckpt"):
        load_supernet(path, tiny_space().hyperspace)


# -- quality of subnets ---------------------------------------------------------------------------------------------


class Counting:
    """A progress bar that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, more: int) -> None:
        self.count += more


@pytest.fixture
def quantized(net: Elastic) -> Elastic:
    init_qat(net, tiny_space(), train_pixels()[:64], QUANT, 0)
    return net.eval()


def evaluator(net: Any, cache_file: Path | None = None) -> SubnetEvaluator:
    validation = normalize(images().val, tiny_config().data)
    return SubnetEvaluator(net, QUANT, train_pixels()[:64], validation, images().val_labels, cache_file)


@cache
def some_subnets() -> list[Subnet]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(Subnet.sample(tiny_space(), rng) for _ in range(8)))[:5]


def test_quality_is_the_quantized_accuracy_after_recalibration(quantized: Elastic) -> None:
    subnet = Subnet.largest(tiny_space(), 16)
    graph = subnet_graph(subnet)
    x = normalize(images().val, tiny_config().data)
    with torch.no_grad():
        for p in quantized.ops_by_name.values():
            if hasattr(p, "weight"):
                p.weight_scale.ratio.mul_(200)  # so coarse that quantization costs accuracy
        stats = calibrate(quantized, graph, [train_pixels()[:64]], QUANT)
        assert accuracy(quantized, subnet) > 90
        scores = quantized(x, graph, quantizer=QUANT, stats=stats).flatten(1)
    correct = 100 * float((scores.argmax(1) == images().val_labels).double().mean())
    assert correct < 80
    assert evaluator(quantized).top1([subnet]) == [pytest.approx(correct)]


def test_quality_evaluates_every_subnet_once(quantized: Elastic) -> None:
    judge, counting = evaluator(quantized), Counting()
    a, b, c, *_ = some_subnets()
    first = judge.seen([a, b, a], counting)
    assert counting.count == 2 and first[0] == first[2]
    assert judge.seen([b, a], counting) == [first[1], first[0]] and counting.count == 2
    judge.seen([c, a], counting)
    assert counting.count == 3


def test_quality_does_not_depend_on_order_or_company(quantized: Elastic) -> None:
    subnets = some_subnets()
    together = evaluator(quantized).seen(subnets)
    assert len(set(together)) > 1
    assert evaluator(quantized).seen(subnets[::-1]) == together[::-1]
    assert [evaluator(quantized).seen([subnet])[0] for subnet in subnets] == together


def test_quality_outlives_the_process_in_its_cache(quantized: Elastic, tmp_path: Path) -> None:
    subnets, file, counting = some_subnets(), tmp_path / "quality.json", Counting()
    known = evaluator(quantized, file).seen(subnets)
    assert json.loads(file.read_text()) == dict(zip(map(str, subnets), map(list, known), strict=True))
    assert evaluator(None, file).seen(subnets, counting) == known  # no network left to ask
    assert counting.count == 0


def test_a_part_of_the_images_is_judged_as_those_alone(quantized: Elastic) -> None:
    pixels, labels = normalize(images().val, tiny_config().data), images().val_labels
    part = Part(pixels, range(10, 50))
    assert len(part) == 40 and torch.equal(part[:7], pixels[10:17]) and torch.equal(part[35:99], pixels[45:50])
    subnets = some_subnets()
    alone = SubnetEvaluator(quantized, QUANT, train_pixels()[:64], pixels[10:50], labels[10:50]).top1(subnets)
    assert SubnetEvaluator(quantized, QUANT, train_pixels()[:64], part, labels[10:50]).top1(subnets) == alone


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_quality_on_a_gpu_is_that_on_the_cpu(quantized: Elastic) -> None:
    subnets, pixels = some_subnets(), normalize(images().val, tiny_config().data)
    given = QUANT, train_pixels()[:64], pixels, images().val_labels
    known = SubnetEvaluator(quantized, *given).top1(subnets)
    found = SubnetEvaluator(quantized.cuda(), *given, device=device_of("gpu")).top1(subnets)
    assert found == pytest.approx(known, abs=200 / len(pixels))  # two images: sums are in another order


def test_evaluation_runs_where_the_trainer_does() -> None:
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert [device_of(name).type for name in ("cpu", "gpu", "auto")] == ["cpu", "cuda", here]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_supernet_keeps_the_padding_it_was_trained_with(tmp_path: Path) -> None:
    space = tiny_space()
    save_supernet(tmp_path / "qat.ckpt", make_supernet(space, (0.0, 1.0), "same"), space)
    net, _ = load_supernet(tmp_path / "qat.ckpt", space.hyperspace)
    assert net.padding == "same"
