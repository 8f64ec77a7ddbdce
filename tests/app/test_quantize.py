"""``python -m spaceevo.quantize``: torchvision's classifiers after training, checked like our own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

QUICK = ("data=digits", "rounds=2", "runs=2", "spread_s=0", "calibration_images=16", "data.test_limit=40")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("quantize", "model=...")``: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(entrypoint: str, *arguments: str) -> tuple[int, str, str]:
        from spaceevo import quantize, verify

        monkeypatch.setattr("sys.argv", [entrypoint, *arguments])
        code = 0
        try:
            {"quantize": quantize, "verify": verify}[entrypoint].main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.mark.slow
def test_a_classifier_of_torchvision_becomes_int8_with_a_card_that_verify_reads(run: Run, tmp_path: Path) -> None:
    code, out, error = run("quantize", "model=shufflenet_v2_x0_5", "resolution=32", "seed=1", *QUICK)
    assert code == 0, error
    assert "random weights" in out
    folder = tmp_path / "models" / "shufflenet_v2_x0_5"
    card = json.loads((folder / "card.json").read_text())
    assert card["weights"] is None and card["data"]["images"] == 40 and card["float_convolutions"] == 0
    assert card["files"]["model.onnx"]["bytes"] < 0.5 * card["files"]["fp32.onnx"]["bytes"]
    assert sum(row["int8_ms"] or 0 for row in card["ops"]) == pytest.approx(card["measured_ms"])
    code, out, error = run("verify", f"path={folder}", "progress_bar=false")
    assert code == 0, error
    assert "the same, bit for bit" in out


def test_weights_are_read_and_those_of_another_model_say_which_tensor_differs(run: Run, tmp_path: Path) -> None:
    import torchvision
    from safetensors.torch import save_file

    from spaceevo.deploy.torchvision_model import classifier

    state = torchvision.models.squeezenet1_1(num_classes=10).state_dict()
    torch.save(state, tmp_path / "w.pth")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        net = classifier("squeezenet1_1", 10, 3, str(tmp_path / name))
        assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
    (tmp_path / "half.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:1000])
    for arguments, said in (
        (
            ("model=squeezenet1_1", "weights=w.pth", "data.classes=7"),
            "weights=w.pth: not of squeezenet1_1 for data.classes=7: ",
        ),
        (("model=squeezenet1_1", "weights=half.pth"), "weights=half.pth: truncated or not a state dict"),
        (("model=squeezenet1_1", "weights=none.pth"), "weights=none.pth: no such file"),
        (("model=lenet",), "model=lenet: no such model; there are: alexnet, "),
        (("model=alexnet", "resolution=8"), "resolution=8: the network cannot be exported for images of this size ("),
        (("model=alexnet", "calibrate=mse"), "calibrate=mse: no such calibrate; there are: minmax, entropy, percentile"),
        (("model=alexnet", "runs=0"), "runs=0: must be 1 or more"),
        ((), "model: has no value; give a classifier of torchvision"),
    ):
        code, _, error = run("quantize", "data=digits", *arguments)
        assert code == 2 and error.startswith(f"error: {said}") and error.count("\n") == 1, error
    assert not (tmp_path / "models").exists()
