"""A classifier of torchvision as an FP32 ONNX file: what post-training quantization is tried on beside our own subnets."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from spaceevo.deploy.files.onnx_graph import INPUT, OPSET, OUTPUT
from spaceevo.errors import UserError, bad_choice, first_line


class _Rgb(nn.Module):
    """Grey images for a network of colour images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.expand(-1, 3, -1, -1))


def classifier(name: str, classes: int, channels: int, weights: str | None, seed: int = 0) -> nn.Module:
    """torchvision's model ``name`` for ``classes``, with the state dict in ``weights``, or random weights of ``seed``.

    Raises:
        UserError: there is no such model, or the file is not its state dict.
    """
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise bad_choice("model", name, names)
    torch.manual_seed(seed)
    net = torchvision.models.get_model(name, weights=None, num_classes=classes)
    if weights is not None:
        net.load_state_dict(_state(net, Path(weights), name, classes))
    return (net if channels == 3 else _Rgb(net)).eval()


def _state(net: nn.Module, path: Path, name: str, classes: int) -> dict[str, Tensor]:
    """A state dict (``.safetensors``, or what ``torch.save`` wrote) that fits ``net``."""
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        found = {key: tuple(value.shape) for key, value in state.items()}
    except FileNotFoundError:
        raise UserError(f"weights={path}: no such file") from None
    except Exception as error:  # safetensors, pickle and zip have exceptions of their own
        raise UserError(f"weights={path}: truncated or not a state dict ({type(error).__name__})") from None
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            shapes = f"{key} is {found.get(key)}, must be {wanted.get(key)}"
            raise UserError(f"weights={path}: not of {name} for data.classes={classes}: {shapes}")
    return state


def to_onnx(net: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """``net`` as ONNX: float32 ``input`` ``[1, C, R, R]`` (``shape`` is ``(C, R, R)``) to ``logits`` ``[1, classes]``.

    Raises:
        UserError: the network does not take images of this size, or has an operation that ONNX lacks.
    """
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            warnings.simplefilter("ignore")  # dynamo=True needs onnxscript; the older exporter says it is old
            torch.onnx.export(
                net,
                (torch.zeros(1, *shape),),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
            return path.read_bytes()
    except Exception as error:
        told = f"the network cannot be exported for images of this size ({first_line(error)})"
        raise UserError(f"resolution={shape[1]}: {told}") from None
