"""``python -m spaceevo.export``: models that are refused, checkpoints that are not what they should be, the PTQ baseline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import TINY, Command
from emulators import WRONG, stand_in

from spaceevo.app.config import compose
from spaceevo.app.run import execute
from spaceevo.errors import ClaimError, UserError
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import SearchSpace
from spaceevo.steps.needs import hyperspace
from spaceevo.training.checkpoint import load_supernet, save_supernet
from spaceevo.training.supernet import make_supernet


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with everything that the export reads."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("bkd", "logs", "hydra", "figures")))


def export(run: Path) -> str:
    """What the export says of the run's checkpoints."""
    with pytest.raises(UserError) as caught:
        execute("export", compose("export", [*TINY, f"run_dir={run}"]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path within."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_impossible_tolerance_is_refused_before_anything_is_touched(run: Path, command: Command) -> None:
    before = contents(run)
    done = command("export", *TINY, f"run_dir={run}", "export.tolerance=100.1")
    assert done.returncode == 2 and done.stderr == "error: export.tolerance=100.1: must be 100 or less\n"
    assert {name: content for name, content in contents(run).items() if not name.startswith("hydra/")} == before


def test_a_model_that_gives_other_integers_on_an_emulated_cpu_is_refused(
    run: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("cortex-a72", tmp_path / "cache", monkeypatch, WRONG)
    done = command("export", *TINY, f"run_dir={run}", "export.emulate=[cortex-a72]", "export.calibrate=null")
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "model.onnx gives 0.00 % of the reference's integers" in done.stderr and "on an emulated cortex-a72" in done.stderr


def test_a_model_too_far_from_the_trained_one_is_kept_aside_and_the_earlier_ones_stay(run: Path, command: Command) -> None:
    before = contents(run / "models")
    done = command("export", *TINY, f"run_dir={run}", "export.mean_difference=0", "export.calibrate=null")
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "output steps on average from the trained model (export.mean_difference=0.0)" in done.stderr
    folders = [path for path in (run / "models").iterdir()]
    assert folders and f"see {run}/models/" in done.stderr and "/refused/parity.json" in done.stderr
    for folder in folders:
        kept = ["fp32.onnx", "mistakes.png", "model.onnx", "model.safetensors", "model.tflite", "parity.json"]
        assert sorted(path.name for path in (folder / "refused").iterdir()) == kept
        report = json.loads((folder / "refused/parity.json").read_text())
        assert report["refused"] and report["files"]["model.onnx"]["mean_difference"] > 0
        assert len(report["ops"]) > 20
    assert {name: content for name, content in contents(run / "models").items() if "/refused/" not in name} == before
    assert execute("export", compose("export", [*TINY, f"run_dir={run}"])) is False  # what was made before is up to date
    assert execute("export", compose("export", [*TINY, f"run_dir={run}", "export.calibrate=null", "export.tolerance=90"]))
    assert not any((folder / "refused").exists() for folder in folders)


def test_cards_tell_what_can_be_checked_elsewhere(tiny_run: Path) -> None:
    import hashlib

    for path in tiny_run.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert card["data"]["name"] == "digits" and card["data"]["images"] == 360 and card["data"]["test_limit"] is None
        assert set(card["files"]) >= {"model.onnx", "fp32.onnx"}
        for name, claims in card["files"].items():
            content = (path.parent / name).read_bytes()
            assert (claims["bytes"], claims["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert card["files"]["model.onnx"]["top1"] == card["top1_runtime"]
        assert card["parity"]["first_apart"] is None and card["parity"]["ops"] > 20
        assert card["mean_difference"] < 1


def test_cards_tell_quantizations_own_loss_and_cold_latencies(tiny_run: Path) -> None:
    for path in tiny_run.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert card["quantization_loss"] == pytest.approx(card["top1_fp32"] - card["top1_runtime"])
        for claims in card["files"].values():
            assert claims["cold_ms"] > claims["quantiles_ms"]["min"]
        cold = tuple(card["files"][name]["cold_ms"] for name in ("model.onnx", "fp32.onnx"))
        assert (card["cold_ms"], card["fp32_cold_ms"]) == cold


def test_fp32_is_the_quantized_models_weights_and_inherited_the_supernets(tiny_run: Path) -> None:
    """So that what quantization costs is no matter of more training, and what finishing brings stands beside it."""
    from spaceevo.data import load_data, normalize
    from spaceevo.nn.evaluate import calibrate, logits, resized, top1
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.training.checkpoint import load_finished

    cfg = compose("export", [*TINY, f"run_dir={tiny_run}"])
    bits = json.loads(next(tiny_run.glob("models/*/card.json")).read_text())["weight_bits"]
    net, space = load_supernet(tiny_run / "qat.ckpt", hyperspace(cfg), "qat command", quantizer=Quantizer(bits))
    images = load_data(cfg.data, test=True)
    assert images.test is not None and images.test_labels is not None
    calibration = normalize(images.train[: cfg.search_subnet.calibration_images], cfg.data)
    for path in tiny_run.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        graph = subnet_graph(Subnet.parse(space, card["encoding"]))
        own, told = load_finished(tiny_run / f"finished/{card['name']}.ckpt", space, Quantizer(bits))
        assert card["finish"]["steps"] == told["steps"] > 0
        assert card["top1_val"] == told["top1_val"] and card["finish"]["top1_val_inherited"] == told["top1_inherited"]
        for source, quantizer, key in ((own, None, "top1_fp32"), (net, Quantizer(bits), "top1_inherited")):
            stats = calibrate(source, graph, resized(calibration, graph.input.hw), quantizer)
            given = logits(source, graph, stats, normalize(images.test, cfg.data), quantizer)
            assert card[key] == pytest.approx(top1(given, images.test_labels), abs=0.3), key


def test_cards_have_the_baseline_and_every_ops_latency(tiny_run: Path) -> None:
    for path in tiny_run.glob("models/*/card.json"):
        card = json.loads(path.read_text())
        assert card["ptq"]["calibrate"] == "minmax" and card["ptq"]["float_convolutions"] == 0
        assert card["ptq"]["top1"] > 50 and card["ptq"]["measured_ms"] > 0
        for precision, total in (("int8", card["measured_ms"]), ("fp32", card["fp32_ms"])):
            assert sum(row[f"{precision}_ms"] or 0 for row in card["ops"]) == pytest.approx(total)
        assert {row["op"] for row in card["ops"]} > {"input", "stem", "classifier", "output"}


def test_a_checkpoint_without_quantization_names_the_command(run: Path) -> None:
    shutil.copyfile(run / "supernet.ckpt", run / "qat.ckpt")
    error = export(run)
    assert "trained without quantization" in error and "`python -m spaceevo.train stage=qat run_dir=" in error


def foreign(path: Path, encoding: str, *overrides: str) -> None:
    """A quantized supernet of another space or hyperspace."""
    space = SearchSpace.parse(encoding, hyperspace(compose("export", ["experiment=tiny", *overrides])))
    save_supernet(path, make_supernet(space, (0.0, 1.0)), space, weight_bits=8)


def test_a_checkpoint_for_weights_of_other_bits_is_told(tmp_path: Path) -> None:
    hs, path = hyperspace(compose("export", ["experiment=tiny"])), tmp_path / "qat.ckpt"
    foreign(path, "tiny-0112-2222")
    load_supernet(path, hs, "qat command", quantizer=Quantizer(8))
    with pytest.raises(
        UserError, match=r"trained with weights of 8 bits, this device's have 7 .* train anew with `qat command`"
    ):
        load_supernet(path, hs, "qat command", quantizer=Quantizer(7))
    other = (
        r"trained with affine activations, this device's are symmetric \(device\.activations\); train anew with `qat command`"
    )
    with pytest.raises(UserError, match=other):
        load_supernet(path, hs, "qat command", quantizer=Quantizer(8, "symmetric"))


def test_a_checkpoint_of_another_space_says_which_field_differs(tmp_path: Path) -> None:
    hs, path = hyperspace(compose("export", ["experiment=tiny"])), tmp_path / "qat.ckpt"
    foreign(path, "tiny-0112-2222", "hyperspace.stages.1.widths=[8,16,24,48]")
    with pytest.raises(
        UserError, match=r"its hyperspace\.stages\[1\]\.widths is \[8, 16, 24, 48\], here it is \[8, 16, 24, 32\]"
    ):
        load_supernet(path, hs)
    foreign(path, "tiny-0112-2222")
    load_supernet(path, hs, qat="command", wanted=SearchSpace.parse("tiny-0112-2222", hs))
    with pytest.raises(UserError, match="the block type of its stage2 is mbv3, here it is fused_mb_se"):
        load_supernet(path, hs, wanted=SearchSpace.parse("tiny-0212-2222", hs))
    with pytest.raises(UserError, match="the widths of its stage4 is"):
        load_supernet(path, hs, wanted=SearchSpace.parse("tiny-0112-2221", hs))


def test_swapped_and_truncated_checkpoints_are_told(run: Path) -> None:
    content = (run / "qat.ckpt").read_bytes()
    foreign(run / "qat.ckpt", "tiny-0000-0000")
    assert "of another search space, tiny-0000-0000: the " in export(run)
    (run / "qat.ckpt").write_bytes(content[: len(content) // 2])
    error = export(run)
    assert (
        "qat.ckpt: truncated or not a checkpoint" in error and "make it again with `python -m spaceevo.train stage=qat" in error
    )


def test_a_claim_error_is_exit_code_3_whatever_is_around_it() -> None:
    from spaceevo.app.words import exit_code

    def wrapped(error: Exception) -> Exception:
        outer = RuntimeError("a launcher")
        outer.__cause__ = error
        return outer

    assert exit_code(wrapped(ClaimError("x"))) == 3
    assert exit_code(wrapped(UserError("x"))) == exit_code(ZeroDivisionError()) == 2


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("export.calibrate=mse", "export.calibrate=mse: no such calibrate; there are: null, minmax, entropy, percentile"),
        ("export.tolerance=1e30", "export.tolerance=1e+30: must be 100 or less"),
        ("export.tolerance=-1", "export.tolerance=-1.0: must be 0 or more"),
        ("export.mean_difference=-1", "export.mean_difference=-1.0: must be 0 or more"),
        (
            "blocks.blocks.0.act=gelu",
            "blocks.blocks.0.act=gelu: no such act; there are: relu, relu6, hswish, swish (did you mean relu or relu6?)",
        ),
    ],
)
def test_bad_values(argument: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        compose("export", ["experiment=tiny", argument])
    assert str(caught.value) == said
