"""Teachers: boundaries that fit the hyperspace, weights files, and training."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spaceevo.app.config import compose
from spaceevo.data import Images, ImagesModule, normalize
from spaceevo.errors import UserError
from spaceevo.nn.evaluate import top1
from spaceevo.space import SearchSpace, Subnet, stage_input_hw
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.teacher import _tell_shallow
from spaceevo.training.fit import fit
from spaceevo.training.teacher import Teacher, TeacherModule, boundary_moments, cnn_teacher, efficientnet_b5_teacher

B5_STRIDES = (2, 2, 2, 1, 2, 1)
WIDTHS = (8, 12, 16, 16, 24)


def small_teacher(stem_stride: int = 2, strides: tuple[int, ...] = (1, 2, 1, 2), depth: int = 1) -> Teacher:
    torch.manual_seed(0)
    return cnn_teacher(1, 10, stem_stride, strides, WIDTHS, depth)


@pytest.mark.parametrize("resolution", [12, 16, 19])
def test_boundaries_have_the_sizes_of_the_elastic_stages(resolution: int) -> None:
    cfg = compose("train", ["experiment=tiny"])
    space = SearchSpace.parse("tiny-0000-0000", hyperspace(cfg))
    features = small_teacher().eval().features(torch.randn(2, 1, resolution, resolution))
    assert [f.shape[1] for f in features] == list(WIDTHS)
    assert [f.shape[-1] for f in features] == stage_input_hw(space.hyperspace, resolution)
    assert len(features) == 1 + len(Subnet.largest(space).stages)


@pytest.mark.parametrize("depth", [1, 3])
def test_forward_is_the_head_on_the_last_boundary(depth: int) -> None:
    net, x = small_teacher(depth=depth).eval(), torch.randn(3, 1, 16, 16)
    scores = net(x)
    assert scores.shape == (3, 10)
    assert torch.equal(scores, net.head(net.features(x)[-1]))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 4 * depth


def test_a_teacher_shallower_than_the_stages_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for more, told in (["teacher.depth=1"], 1), (["teacher.depth=2"], 0), (["teacher=efficientnet_b5"], 0):
        cfg = compose("train", ["experiment=tiny", *more])
        _tell_shallow(cfg, hyperspace(cfg))
        assert capsys.readouterr().out.count("teacher.depth=1, and stages have up to 2 blocks") == told


@pytest.mark.parametrize("widths", [(8, 16), (8, 8, 8, 8, 8, 8), ()])
def test_widths_that_do_not_fit_the_stages_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"teacher\.widths=\[.*\]: must be 5 widths"):
        cnn_teacher(1, 10, 2, (1, 2, 1, 2), widths, 1)


def test_boundary_moments_are_those_of_every_channel() -> None:
    net, x = small_teacher().eval(), torch.randn(16, 1, 16, 16)
    moments = boundary_moments(net, x.split(3))
    assert [len(v) for _, v in moments] == list(WIDTHS)
    for (mean, variance), feature in zip(moments, net.features(x), strict=True):
        channels = feature.transpose(0, 1).flatten(1)
        torch.testing.assert_close(mean, channels.mean(1))
        torch.testing.assert_close(variance, channels.var(1))


def test_a_teacher_learns_in_a_few_epochs(tmp_path: Path) -> None:
    cfg = compose("train", ["experiment=tiny"]).data
    rng = torch.Generator().manual_seed(0)
    pictures = F.interpolate(torch.rand(10, 1, 4, 4, generator=rng), size=(16, 16), mode="bilinear")
    labels = torch.arange(256) % 10
    pixels = ((pictures[labels] + 0.1 * torch.randn(256, 1, 16, 16, generator=rng)).clamp(0, 1) * 255).to(torch.uint8)
    data = ImagesModule(Images(pixels[:192], labels[:192], pixels[192:], labels[192:]), cfg, 32, 0)
    net = small_teacher()
    recipe = SimpleNamespace(lr=0.05, weight_decay=5e-4, label_smoothing=0.0)
    epochs = 4
    module = TeacherModule(net, recipe, (12, 16), epochs * data.steps_per_epoch, 0)
    fit(module, data, {"accelerator": "cpu", "enable_progress_bar": False}, False, tmp_path, epochs)
    held_out, net = normalize(pixels[192:], cfg), net.eval()
    with torch.no_grad():
        assert top1(small_teacher().eval()(held_out), labels[192:]) < 40
        for size in (12, 16):  # it was shown both sizes
            x = F.interpolate(held_out, size=(size, size), mode="bilinear", antialias=True)
            assert top1(net(x), labels[192:]) > 80


def test_efficientnet_refuses_stages_and_images_that_it_does_not_have() -> None:
    with pytest.raises(UserError, match="strides 2,2,2,1,2,1"):
        efficientnet_b5_teacher(3, 1000, (1, 2, 1, 2), None)
    with pytest.raises(UserError, match=r"data\.channels=1"):
        efficientnet_b5_teacher(1, 1000, B5_STRIDES, None)


@pytest.mark.slow
def test_efficientnet_boundaries_are_the_papers_six_stages() -> None:
    net = efficientnet_b5_teacher(3, 7, B5_STRIDES, None).eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        features, scores = net.features(x), net(x)
    assert [f.shape[1] for f in features] == list(net.channels) == [24, 40, 64, 128, 176, 304, 512]
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 4, 2, 2]
    assert scores.shape == (1, 7)
    assert len(features) == 1 + len(B5_STRIDES)


class Malicious:
    """Pickles to a call of ``os.system``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.slow
def test_efficientnet_reads_a_weights_file_and_refuses_what_is_none(tmp_path: Path) -> None:
    from torchvision.models import efficientnet_b5

    path, mark = tmp_path / "b5.pth", tmp_path / "ran"

    def build() -> Teacher:
        return efficientnet_b5_teacher(3, 7, B5_STRIDES, str(path))

    with pytest.raises(UserError, match=r"teacher\.weights=.*b5\.pth: No such file"):
        build()
    torch.save({"features": Malicious(mark)}, path)
    with pytest.raises(UserError, match="not a state_dict of tensors"):
        build()
    assert not mark.exists()
    path.write_text("not a checkpoint")
    with pytest.raises(UserError, match="not a state_dict of tensors"):
        build()
    torch.manual_seed(0)
    state = efficientnet_b5(weights=None, num_classes=7).state_dict()
    torch.save(state, path)
    assert torch.equal(build().stages[0][0][0].weight, state["features.0.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("content", ["other tensors", "a list", "other classes"])
def test_efficientnet_refuses_the_weights_of_another_network(tmp_path: Path, content: str) -> None:
    from torchvision.models import efficientnet_b5

    path = tmp_path / "b5.pth"
    if content == "other classes":
        torch.save(efficientnet_b5(weights=None, num_classes=5).state_dict(), path)
    else:
        torch.save({"other tensors": {"weight": torch.ones(2)}, "a list": [torch.ones(2)]}[content], path)
    with pytest.raises(UserError, match=r"teacher\.weights=.*b5\.pth"):
        efficientnet_b5_teacher(3, 7, B5_STRIDES, str(path))
