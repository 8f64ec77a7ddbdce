"""``python -m spaceevo.verify`` on a real exported model: what holds, what does not, and files that are not the card's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Command

from spaceevo.data import load_data
from spaceevo.data.config import DataConfig
from spaceevo.deploy.claims import verify
from spaceevo.deploy.claims.card import sealed
from spaceevo.deploy.claims.gate import digest
from spaceevo.deploy.claims.latencies import latency_claims
from spaceevo.deploy.claims.ran import Ran
from spaceevo.deploy.config import NORMALIZED
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.inputs import Shown, shown
from spaceevo.deploy.integer.model import load_integer
from spaceevo.deploy.runtimes.registry import open_file, outputs
from spaceevo.errors import UserError
from spaceevo.steps.verify import claimed_data

Run = Callable[..., tuple[int, str, str]]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def model(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of an exported model's folder, as a user takes it to another machine."""
    source = sorted(path.parent for path in tiny_run.glob("models/*/card.json"))[0]
    return Path(shutil.copytree(source, tmp_path / "model"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("path=x")``: exit code, standard output and standard error of the command, without a process of its own."""
    from spaceevo.verify import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPACEEVO_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["verify", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


def card_of(model: Path) -> dict[str, Any]:
    return json.loads((model / "card.json").read_text())


def edit(model: Path, change: Edit) -> None:
    card = card_of(model)
    change(card)
    (model / "card.json").write_text(json.dumps(sealed(card)))


def retouch(model: Path, name: str, content: bytes) -> None:
    """Another file under the same name, with a card that knows its size and hash: only running it tells."""
    import hashlib

    (model / name).write_bytes(content)
    edit(model, lambda card: card["files"][name].update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))


def test_an_untouched_model_holds_what_its_card_claims(model: Path, command: Command) -> None:
    done = command("verify", f"path={model}")
    assert done.returncode == 0, done.stderr
    record = json.loads((model / "verify.json").read_text())
    assert record["holds"] is True
    told = {(claim["of"], claim["what"]): claim for claim in record["claims"]}
    for name, claims in card_of(model)["files"].items():
        assert told[name, f"top-1 in {claims['runtime']}"]["holds"] is True
        assert told[name, "outputs"]["here"] == "the same, bit for bit"
        assert told[name, "latency, 1 thread"]["here"].endswith("x)") and told[name, "latency, 1 thread"]["holds"] is None
        assert told[name, "latency, cold caches"]["card"] == f"{claims['cold_ms']:.4g} ms"
    assert told["model.onnx", "agreement with the trained model"]["holds"] is True
    assert told["machine", "CPU flags"]["here"] == "the same"
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["of", "claim", "on", "the", "card", "here", "holds"]
    assert len(lines) == len(record["claims"]) + 4
    assert not re.search(r"\d\.\d{7}", done.stdout)  # figures for people
    assert {path.name for path in model.parent.iterdir()} == {"model"}


def test_a_model_that_is_less_accurate_here_gets_exit_code_3(model: Path, run: Run) -> None:
    proto = onnx.load(model / "model.onnx")
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias")
    shuffled = np.roll(onnx.numpy_helper.to_array(bias), 3) + np.arange(10, dtype=np.int32) * 20_000
    bias.CopyFrom(onnx.numpy_helper.from_array(shuffled.astype(np.int32), bias.name))
    retouch(model, "model.onnx", proto.SerializeToString())
    edit(model, lambda card: card["host"].update(flags=["avx2", "amx_int8x"]))
    code, out, error = run(f"path={model}", "progress_bar=false")
    assert code == 3
    assert error.count("\n") == 1 and error.startswith("error: verify: ")
    claimed = f"{card_of(model)['top1_runtime']:.2f} % on the card"
    assert "model.onnx: top-1 in onnxruntime is" in error and claimed in error
    assert "no amx_int8x" in out
    record = json.loads((model / "verify.json").read_text())
    assert record["holds"] is False
    wrong = [claim["of"] for claim in record["claims"] if claim["must"] and not claim["holds"]]
    assert wrong[0] == "model.onnx" and {of.split(" in ")[0] for of in wrong} == {"model.onnx"}  # in all that read it


def break_files(model: Path) -> dict[str, tuple[Callable[[], object], str]]:
    """Ways to break a model's folder, each with what is said of it."""
    onnx_file, card = model / "model.onnx", model / "card.json"
    size = onnx_file.stat().st_size
    return {
        "truncated file": (
            lambda: onnx_file.write_bytes(onnx_file.read_bytes()[:5000]),
            f"model.onnx: truncated, 5000 of {size}",
        ),
        "changed file": (lambda: onnx_file.write_bytes(onnx_file.read_bytes()[:-1] + b"x"), "model.onnx: changed, sha256 "),
        "missing file": ((model / "fp32.onnx").unlink, "fp32.onnx: No such file"),
        "missing card": (card.unlink, "no readable card.json in it"),
        "truncated card": (lambda: card.write_text(card.read_text()[:300]), "card.json: truncated or not JSON"),
        "card of an older version": (lambda: edit(model, lambda c: c.pop("files")), "card.json: says nothing of files"),
        "not a model": (
            lambda: retouch(model, "model.onnx", b"no model"),
            "truncated or not a model that onnxruntime can read",
        ),
        "another data set": (lambda: edit(model, lambda c: c["data"].update(name="x")), "data.name=x: no such name; there are"),
    }


@pytest.mark.parametrize("how", range(8))
def test_a_broken_folder_gets_one_line(how: int, model: Path) -> None:
    name, (harm, said) = list(break_files(model).items())[how]
    harm()
    images = Shown(torch.zeros(2, 1, 12, 12), np.zeros((2, 1, 12, 12), np.uint8))
    with pytest.raises(UserError) as caught:
        card = verify.read_card(model)
        files = verify.read_files(model, card)
        claimed_data(DataConfig(), card["data"], "card.json")
        verify.run_claims(card, files, model, images, np.zeros(2, int), 0.05, lambda *_: None)
    assert said in str(caught.value), name
    assert "\n" not in str(caught.value)


def test_an_edited_figure_is_exit_code_3_and_an_empty_card_2(model: Path, run: Run) -> None:
    card = card_of(model)
    (model / "card.json").write_text(json.dumps({**card, "predicted_ms": 0.001}))
    code, _, error = run(f"path={model}", "progress_bar=false")
    assert code == 3 and error.count("\n") == 1 and "card: sha256 is " in error and "changed since it was written" in error
    assert json.loads((model / "verify.json").read_text())["holds"] is False
    (model / "card.json").write_text(json.dumps({**card, "files": {}}))
    code, _, error = run(f"path={model}")
    assert code == 2 and error.startswith(f"error: {model}/card.json: files={{}}: must be one or more files")
    assert error.count("\n") == 1


def test_what_is_not_checked_is_listed(model: Path, run: Run) -> None:
    code, out, _ = run(f"path={model}", "progress_bar=false")
    left = json.loads((model / "verify.json").read_text())["not_checked"]
    assert code == 0 and {"predicted_ms", "ops", "host", "top1_fake_quant"} <= set(left)
    assert out.splitlines()[-1].endswith(f"not checked here: {', '.join(left)}")


def test_a_truncated_file_is_exit_code_2(model: Path, run: Run) -> None:
    file = model / "model.onnx"
    file.write_bytes(file.read_bytes()[:1000])
    code, _, error = run(f"path={model}")
    assert code == 2 and error.startswith(f"error: {file}: truncated, 1000 of ")
    assert error.count("\n") == 1 and not (model / "verify.json").exists()


def test_the_cards_images_are_the_ones_that_count(model: Path) -> None:
    claimed = card_of(model)["data"]
    data = claimed_data(DataConfig(root="/elsewhere"), claimed, "card.json")
    assert (data.name, data.mean, data.test_limit, data.root) == ("digits", claimed["mean"], None, "/elsewhere")
    with pytest.raises(UserError, match=r"data\.test_limit=5: card\.json claims its figures for data\.test_limit=null"):
        claimed_data(DataConfig(test_limit=5), claimed, "card.json")
    assert claimed_data(DataConfig(name="digits"), {}, "card.json").name == "digits"


@pytest.mark.parametrize(("wrong", "holds"), [(0, True), (1, True), (2, False)])
def test_top1_may_differ_by_one_image_or_the_points_given(wrong: int, holds: bool) -> None:
    labels = np.arange(200) % 10
    logits = np.eye(10, dtype=np.float32)[labels]
    claims = dict(runtime="onnxruntime", top1=100.0, outputs_sha256=digest(logits))
    logits[:wrong] = 0
    logits[:wrong, 9] = 1
    ran = Ran("model.onnx", "onnxruntime", "files/model.onnx", claims, True)
    found = verify.accuracy_claims(ran, 99.0, logits, labels, points=0.05)
    assert found[0].holds is holds and found[0].must
    assert (found[1].here == "the same, bit for bit") is (wrong == 0)
    assert found[2].holds is (True if wrong == 0 else None)


def test_files_of_several_runtimes_are_compared(model: Path) -> None:
    card, logits = card_of(model), np.eye(3, dtype=np.float32)
    names = {"model.onnx": "model.onnx", "other.onnx": "model.onnx", "fp32.onnx": "fp32.onnx"}
    one, other, fp32 = (Ran(n, "onnxruntime", f"files/{n}", card["files"][of], True) for n, of in names.items())
    elsewhere = Ran("model.onnx", "openvino", "other_runtimes/openvino/model.onnx", one.claims, False)
    (claim,) = verify.runtimes_claim({one: logits, other: logits, fp32: logits + 1, elsewhere: logits + 1})
    assert (claim.of, claim.card, claim.here, claim.holds) == ("model.onnx = other.onnx", "the same", "the same", True)
    (claim,) = verify.runtimes_claim({one: logits, other: logits * 2})
    assert claim.holds is False
    assert verify.runtimes_claim({one: logits, fp32: logits}) == []


def test_a_file_that_no_runtime_here_executes_is_named_and_not_judged(model: Path) -> None:
    shutil.copyfile(model / "model.onnx", model / "model.bin")
    edit(model, lambda card: card["files"].update({"model.bin": card["files"]["model.onnx"] | {"runtime": "another"}}))
    card = verify.read_card(model)
    shape = card["input"]["shape"]
    pixels, labels = np.zeros((2, *shape[1:]), np.uint8), np.zeros(2, int)
    images = Shown(torch.zeros(pixels.shape), pixels)
    files = verify.read_files(model, card)
    claims, able = verify.run_claims(card, files, model, images, labels, 100.0, lambda *_: None)
    claims += latency_claims(card, files, able)
    (claim,) = (claim for claim in claims if claim.of == "model.bin" and claim.what == "top-1 in another")
    assert claim.here == "not checked: no such runtime" and claim.holds is None and not claim.must


def test_a_model_of_an_older_version_is_given_normalized_floats(model: Path, run: Run) -> None:
    """Files and a card as they were before files took pixels."""
    card, integers = card_of(model), load_integer(model / "model.safetensors")
    data = claimed_data(DataConfig(), card["data"], "card.json")
    images = load_data(data, test=True)
    assert images.test is not None and images.test_labels is not None
    seen = shown(images.test, data, FileInput.of(NORMALIZED, data, card["resolution"])).fed
    files = {
        "model.onnx": write_int8(integers, 1, card["labels"]),
        "model.tflite": write_tflite(integers, False, card["labels"]),
    }
    told = dict(shape=card["input"]["shape"], mean=data.mean, std=data.std)
    edit(
        model,
        lambda c: (
            c.update(input=told),
            c.pop("output"),
            c.pop("other_files"),
            c.pop("other_runtimes", None),
            c["files"].pop("fp32.onnx"),
        ),
    )
    for name, content in files.items():
        retouch(model, name, content)
        given = outputs(open_file(Path(name), content), seen)
        top1 = 100.0 * float(np.mean(given.argmax(1) == images.test_labels.numpy()))
        figures = dict(outputs_sha256=digest(given), top1=top1, identical_integers=100.0, agreement_reference=100.0)
        edit(model, lambda c, name=name, figures=figures: c["files"][name].update(figures))
        edit(model, lambda c, top1=top1: c.update(top1_reference=top1, top1_runtime=top1))
    size = len(files["model.onnx"])
    edit(model, lambda c: c.update(quantization_loss=c["top1_fp32"] - c["top1_runtime"], bytes=size))
    code, out, error = run(f"path={model}", "progress_bar=false")
    assert code == 0, error
    assert out.count("the same, bit for bit") == 2 and "NO" not in out.split()


BAD = {
    "": "path: has no value; give a model's folder",
    "path=nowhere": "path=nowhere: no readable card.json in it",
    "path=x top1_points=-1": "top1_points=-1.0: must be 0 or more",
    "path=x tolerance=1": "tolerance: no such key; there are: path, out_dir, on, python, top1_points,",
    "path=x data.size=1": "data.size: no such key; data has: name, root,",
    "path=x data=mnist": "data=mnist: no such data; there are: ",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_arguments_get_one_line(arguments: str, run: Run, tmp_path: Path) -> None:
    code, _, error = run(*arguments.split())
    assert code == 2 and error.startswith(f"error: {BAD[arguments]}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
