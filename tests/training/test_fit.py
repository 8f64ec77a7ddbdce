"""What every training shares: schedule, random paths, parameter groups and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spaceevo.app.config import Config, compose
from spaceevo.data import Images, ImagesModule
from spaceevo.data.module import Batch, Batches
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import BlockChoice, ElasticStage, SearchSpace, Subnet, extreme_stage
from spaceevo.steps.needs import hyperspace
from spaceevo.training.bkd import BKDModule, Student, student_specs
from spaceevo.training.fit import cosine, fit, set_lr, step_rng
from spaceevo.training.optimizer import parameter_groups
from spaceevo.training.sandwich import sandwich_stages, sandwich_subnets
from spaceevo.training.supernet import SupernetModule, init_qat, make_supernet
from spaceevo.training.teacher import Teacher, TeacherModule, cnn_teacher

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


@cache
def tiny_config() -> Config:
    return compose("train", ["experiment=tiny", "data.shift=1"])


def tiny_space() -> SearchSpace:
    return SearchSpace.parse("tiny-0121-0212", hyperspace(tiny_config()))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.integers(0, 100))
def test_cosine_warms_up_falls_and_ends_near_zero(total: int, warmup: int) -> None:
    warmup = min(warmup, total // 2)
    rates = [cosine(step, total, warmup) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == pytest.approx([(i + 1) / max(1, warmup) for i in range(warmup)])
    assert rates[warmup] == 1
    assert all(a > b for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))
    assert cosine(total, total, warmup) == pytest.approx(0, abs=1e-9)
    if total - warmup > 40:
        assert rates[-1] < 0.01


@pytest.mark.parametrize(("experiment", "train"), [("demo", 55_000), ("tiny", 1237)])
@pytest.mark.parametrize("stage", ["supernet", "qat"])
def test_every_run_s_warm_up_ends_at_the_full_rate(experiment: str, train: int, stage: str) -> None:
    recipe = getattr(compose("train", [f"experiment={experiment}"]), stage)
    for epochs in (1, recipe.epochs, 10 * recipe.epochs):
        steps = epochs * (min(train, recipe.images or train) // recipe.batch)
        rates = [cosine(step, steps, round(recipe.warmup * steps)) for step in range(steps)]
        assert max(rates) == 1 and rates.index(1) < 0.3 * steps
    asked = {("demo", "supernet"): 26, ("demo", "qat"): 4, ("tiny", "supernet"): 10, ("tiny", "qat"): 5}
    steps = recipe.epochs * (min(train, recipe.images or train) // recipe.batch)
    assert round(recipe.warmup * steps) == asked[experiment, stage]


def test_set_lr_scales_every_group_by_its_own_rate() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "base_lr": 0.2}, {"params": [b], "base_lr": 0.02}], 0.2)
    for factor in (1.0, 0.5):
        set_lr(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2 * factor, 0.02 * factor])


def test_parameter_groups_decay_weights_only_and_leave_out_what_is_fixed() -> None:
    net = make_supernet(tiny_space(), (0.0, 1.0))
    names = {id(p): name for name, p in net.named_parameters()}
    groups = parameter_groups(net, 0.1, 1e-4)
    weights, others = ({names[id(p)].rsplit(".", 1)[-1] for p in group["params"]} for group in groups)
    assert weights == {"weight"} and others == {"gain", "shift", "ratio", "zero"}
    assert [g["weight_decay"] for g in groups] == [1e-4, 0] and [g["lr"] for g in groups] == [0.1, 0.1]
    assert sum(len(g["params"]) for g in groups) == len(names) - 2  # but for the input's quantizer


def test_step_rng_is_a_function_of_seed_tag_and_step() -> None:
    def draw(seed: int, tag: str, step: int) -> tuple[float, float]:
        return float(step_rng(seed, tag, step).random()), float(torch.rand(1))

    one = draw(1, "supernet", 7)
    draw(5, "other", 9)
    assert draw(1, "supernet", 7) == one
    others = [draw(2, "supernet", 7), draw(1, "qat", 7), draw(1, "bkd", 7), draw(1, "supernet", 8), draw(7, "supernet", 1)]
    for numbers in zip(one, *others, strict=True):
        assert len(set(numbers)) == 6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 4), st.sampled_from([12, 16]))
def test_sandwich_is_largest_smallest_and_random_at_one_resolution(seed: int, random_paths: int, resolution: int) -> None:
    space = tiny_space()
    paths = sandwich_subnets(space, resolution, random_paths, np.random.default_rng(seed))
    assert paths[0] == Subnet.largest(space, resolution) and paths[1] == Subnet.smallest(space, resolution)
    assert len(paths) == 2 + random_paths
    assert {path.resolution for path in paths} == {resolution}
    for stage, most, least in zip(space.all_stages, paths[0].stages, paths[1].stages, strict=True):
        assert (len(most), len(least)) == (max(stage.depths), min(stage.depths))
        assert {(b.kernel, b.width) for b in most} == {(max(stage.block.kernels), max(stage.widths))}
        assert {(b.kernel, b.width) for b in least} == {(min(stage.block.kernels), min(stage.widths))}


def test_without_the_smallest_a_random_subnet_takes_its_place() -> None:
    space, rng = tiny_space(), np.random.default_rng(0)
    drawn = [sandwich_subnets(space, 16, 1, rng, smallest=False) for _ in range(40)]
    assert all(len(paths) == 3 and paths[0] == Subnet.largest(space, 16) for paths in drawn)
    places = [{str(paths[place]) for paths in drawn} for place in (1, 2)]
    assert min(map(len, places)) > 10 and str(Subnet.smallest(space, 16)) not in places[0] & places[1]


def test_sandwich_of_a_stage_also_draws_its_input_width() -> None:
    stage = ElasticStage("stage1", BlockChoice("mbv3", (3, 5), (1.0, 2.0), "relu"), (8, 16), (1, 2), 1)
    paths = sandwich_stages(stage, (8, 16, 24), 60, np.random.default_rng(0))
    assert paths[:2] == [(24, extreme_stage(stage, True)), (8, extreme_stage(stage, False))]
    assert {cin for cin, _ in paths[2:]} == {8, 16, 24}
    assert {len(blocks) for _, blocks in paths[2:]} == {1, 2}
    assert {b.kernel for _, blocks in paths[2:] for b in blocks} == {3, 5}


EPOCHS, STEPS = 3, 4
RECIPE = SimpleNamespace(
    lr=0.05,
    weight_decay=1e-4,
    muon_lr=None,
    momentum=0.9,
    random_paths=1,
    smallest=True,
    label_smoothing=0.0,
    clip_norm=5.0,
    warmup=0.17,
    largest_first=0.0,
    dropout=0.0,
    schedule="cosine",
    targets="full",
)


def new_teacher(seed: int) -> Teacher:
    torch.manual_seed(seed)
    return cnn_teacher(1, 10, 2, (1, 2, 1, 2), (8, 8, 8, 8, 8), 1)


def new_module(kind: str, seed: int) -> L.LightningModule:
    """One of the pipeline's trainings; the weights it starts from are drawn from ``seed``."""
    space, steps = tiny_space(), EPOCHS * STEPS
    if kind == "teacher":
        return TeacherModule(new_teacher(seed), RECIPE, (12, 16), steps, 0)
    if kind == "bkd":
        frozen = new_teacher(77)
        torch.manual_seed(seed)
        students = [Student(spec, 8, 8) for spec in student_specs(space.hyperspace)[:3]]
        return BKDModule(students, frozen, [torch.ones(8)] * 5, RECIPE, (12, 16), steps, 0)
    torch.manual_seed(seed)
    net, quantizer = make_supernet(space, (-1.0, 2.2)), None
    if kind == "qat":
        quantizer = Quantizer(8)
        init_qat(net, space, torch.randn(8, 1, 16, 16), quantizer, 0)
    return SupernetModule(net, space, RECIPE, steps, 0, quantizer)


class Kill(Exception):
    """What stops a run in the middle of an epoch."""


def new_data(kill_at: tuple[int, int] | None = None) -> ImagesModule:
    """Noise for images; ``kill_at``: the epoch and step whose batch never comes."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (STEPS * 16, 1, 16, 16), generator=rng, dtype=torch.uint8)
    labels = torch.arange(STEPS * 16) % 10
    module = ImagesModule(Images(images, labels, images, labels), tiny_config().data, 16, 0)

    class Killing(Batches):
        def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
            if batch[:2] == kill_at:
                raise Kill
            return super().__getitem__(batch)

    module.dataset = Killing(images, labels, tiny_config().data, 0, augment=True)
    return module


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("steps", [-1, EPOCHS * STEPS], ids=["epochs", "steps"])
@pytest.mark.parametrize("kind", ["teacher", "bkd", "supernet", "qat"])
def test_a_fit_resumed_after_a_kill_ends_with_the_same_bits(kind: str, steps: int, tmp_path: Path) -> None:
    start, whole, killed = (new_module(kind, 0) for _ in range(3))
    resumed = new_module(kind, 1)  # nothing of its own first weights may survive
    fit(whole, new_data(), CPU, False, tmp_path / "whole", EPOCHS, steps)
    with pytest.raises(Kill):
        fit(killed, new_data((1, 2)), CPU, False, tmp_path / "killed", EPOCHS, steps)
    assert (tmp_path / "killed" / "last.ckpt").exists()
    torch.manual_seed(99)
    fit(resumed, new_data(), CPU, False, tmp_path / "killed", EPOCHS, steps)
    assert resumed.global_step == whole.global_step == EPOCHS * STEPS
    for group in whole.trainer.optimizers[0].param_groups:
        assert 0 < group["lr"] < 0.05 * group["base_lr"]  # the schedule has run to its end
    first, last = start.state_dict(), whole.state_dict()
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, last[name]), name
    assert sum(not torch.equal(value, first[name]) for name, value in last.items()) > len(list(whole.parameters())) / 4


@pytest.mark.parametrize("steps", [2, STEPS, STEPS + 1])
def test_so_many_steps_are_trained(steps: int, tmp_path: Path) -> None:
    module = new_module("teacher", 0)
    fit(module, new_data(), CPU, False, tmp_path, EPOCHS, steps)
    assert module.global_step == steps


def test_no_epochs_train_nothing(tmp_path: Path) -> None:
    module = new_module("supernet", 0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, new_data(), CPU, False, tmp_path, 0)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert list(tmp_path.iterdir()) == []


def test_far_from_a_terminal_a_training_tells_how_far_it_is_in_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("spaceevo.training.fit.EVERY_S", 0.0)
    fit(new_module("teacher", 0), new_data(), {**CPU, "enable_progress_bar": True}, False, tmp_path, EPOCHS)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{tmp_path.name}: epoch 1 of {EPOCHS}, step 1 of {EPOCHS * STEPS}"
    assert lines[-1] == f"{tmp_path.name}: epoch {EPOCHS} of {EPOCHS}, step {EPOCHS * STEPS} of {EPOCHS * STEPS}"
    assert len(lines) == EPOCHS * STEPS
