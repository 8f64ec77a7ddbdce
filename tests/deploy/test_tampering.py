"""Every figure of a real card and every file of a real export's folder, changed: it is found, or listed as not checked."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from spaceevo.data import load_data
from spaceevo.data.config import DataConfig
from spaceevo.deploy.claims import verify
from spaceevo.deploy.claims.card import card_text, sealed
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.inputs import shown
from spaceevo.errors import UserError
from spaceevo.steps.verify import claimed_data

Card = dict[str, Any]
#: Figures of which a wrong one has to be found, not only listed, though whoever changed it hashed the card anew.
FOUND = {
    "resolution", "mmacs", "params", "input/shape", "parity/images", "parity/ops", "top1_reference", "top1_runtime",
    "top1_fp32", "quantization_loss", "agreement", "mean_difference", "max_difference", "bytes", "measured_ms", "fp32_ms",
    "cold_ms", "fp32_cold_ms", "speedup", "labels", "padding", "activations", "data/name", "data/classes", "data/images",
    "input/kind", "input/resize", "input/dtype", "output",
    *(f"files/{name}/{key}" for name in ("model.onnx", "model.tflite") for key in
      ("agreement", "mean_difference", "max_difference", "identical_integers", "agreement_reference")),
    *(f"files/{name}/{key}" for name in ("model.onnx", "model.tflite", "fp32.onnx")
      for key in ("runtime", "top1", "bytes", "sha256")),
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tiny_run: Path) -> Path:
    return sorted(path.parent for path in tiny_run.glob("models/*/card.json"))[0]


@pytest.fixture(scope="module")
def images() -> dict[str, Any]:
    """Test images by what a card tells of them, as they are read."""
    return {}


def verified(folder: Path, images: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What does not hold of a folder, and what is listed as not checked; as the command does but for its timings."""
    try:
        card = verify.read_card(folder)
        files = verify.read_files(folder, card)
        data = claimed_data(DataConfig(), card["data"], str(folder / "card.json"))
        key = json.dumps(card["data"])
        if key not in images:
            images[key] = load_data(data, test=True)
        held = images[key]
        small = shown(held.test, data, FileInput.read(card["input"]))
        labels = held.test_labels.numpy()
        claims, _ = verify.run_claims(card, files, folder, small, labels, 0.05, lambda *_: None)
    except UserError as error:
        assert "\n" not in str(error)
        return [str(error)], []
    return [f"{claim.of}: {claim.what}" for claim in claims if claim.must and claim.holds is False], verify.not_checked(
        card, claims
    )


def leaves(part: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all that a card tells; a list is one."""
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name)


def changed(value: Any) -> Any:
    """A value of the same kind that could stand there too."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.01
    if isinstance(value, str):
        digits = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return ("1" if value[0] == "0" else "0") + value[1:] if digits else f"{value}x"
    return value[:-1] if len(value) > 1 else [1, 2]


def at(card: Card, place: tuple[str, ...]) -> Any:
    value: Any = card
    for name in place:
        value = value[name]
    return value


def edited(card: Card, place: tuple[str, ...], value: Any) -> Card:
    """A copy with another value at a place; without it for ``KeyError``."""
    new = copy.deepcopy(card)
    *above, last = place
    part = new
    for name in above:
        part = part[name]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value
    return new


def listed(place: tuple[str, ...], left: list[str]) -> bool:
    path = "/".join(place)
    return any(path == key or path.startswith(f"{key}/") for key in left)


def test_an_untouched_folder_holds_and_lists_what_is_not_checked(source: Path, images: dict[str, Any]) -> None:
    broken, left = verified(source, images)
    assert broken == []
    assert {"predicted_ms", "top1_fake_quant", "host", "ops", "limit_ms"} <= set(left)
    assert not any(listed(tuple(key.split("/")), left) for key in ("top1_runtime", "labels", "data/images", "mmacs"))


def test_every_figure_changed_in_a_card_breaks_its_seal(source: Path) -> None:
    card = json.loads((source / "card.json").read_text())
    places = list(leaves(card))
    assert len(places) > 100
    for place in places:
        for other in (changed(at(card, place)), KeyError):
            if place != ("card_sha256",) or other is not KeyError:
                assert verify.seal_claim(edited(card, place, other)).holds is False, place
    assert verify.seal_claim(json.loads(json.dumps(card, sort_keys=True, indent=7))).holds is True


def test_every_figure_changed_in_a_card_that_is_sealed_anew_is_found_or_listed(
    source: Path, tmp_path: Path, images: dict[str, Any]
) -> None:
    """Alone where it is judged; those that are listed all at once, and they still are."""
    card = json.loads((source / "card.json").read_text())
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    _, left = verified(source, images)
    together = card
    for place in leaves(card):
        new = edited(card, place, changed(at(card, place)))
        if listed(place, left) and "/".join(place) not in FOUND:
            together = edited(together, place, changed(at(card, place)))
            continue
        (folder / "card.json").write_text(card_text(new if place == ("card_sha256",) else sealed(new)))
        broken, listed_then = verified(folder, images)
        assert broken or (listed(place, listed_then) and "/".join(place) not in FOUND), place
    (folder / "card.json").write_text(card_text(sealed(together)))
    _, listed_then = verified(folder, images)
    assert set(left) <= set(listed_then)


def test_what_is_no_figure_is_told_in_one_line_with_its_key(source: Path, tmp_path: Path, images: dict[str, Any]) -> None:
    """Every place that is read, with what cannot stand there."""
    card = json.loads((source / "card.json").read_text())
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    tried = 0
    for place in leaves(card):
        for nonsense in ({"a": [1]}, float("nan"), -7, ["x", None], "a\nb"):
            (folder / "card.json").write_text(json.dumps(edited(card, place, nonsense)))
            try:
                verify.read_card(folder)
            except UserError as error:
                tried += 1
                assert "\n" not in str(error) and "/".join(place) in str(error) and "must be" in str(error)
    assert tried > 100


@pytest.mark.parametrize("part", ["files", "data", "timing", "host", "input", "versions"])
@pytest.mark.parametrize("nonsense", [[], {}, None, 5, "x"])
def test_a_part_that_is_empty_or_something_else_is_told(part: str, nonsense: Any, source: Path, tmp_path: Path) -> None:
    card = json.loads((source / "card.json").read_text())
    if part == "versions" and nonsense == {}:
        pytest.skip("a card may tell of no versions")
    (tmp_path / "card.json").write_text(card_text(sealed({**card, part: nonsense})))
    with pytest.raises(UserError, match=rf"card\.json: {part}"):
        verify.read_card(tmp_path)


def harms(content: bytes) -> dict[str, bytes | None]:
    return {
        "missing": None,
        "empty": b"",
        "garbage": b"\0garbage" * 64,
        "truncated": content[: len(content) // 2],
        "one byte": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "longer": content + b" ",
    }


def test_every_file_harmed_is_found(source: Path, tmp_path: Path, images: dict[str, Any]) -> None:
    """And named, whatever the harm."""
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    names = sorted(path.name for path in folder.iterdir() if path.name not in ("card.json", "verify.json"))
    models = ["fp32.onnx", "model.onnx", "model.safetensors", "model.tflite"]
    assert names == ["README.md", *models[:1], "mistakes.png", *models[1:], "parity.json"]
    for name in names:
        content = (folder / name).read_bytes()
        for how, harmed in harms(content).items():
            (folder / name).unlink() if harmed is None else (folder / name).write_bytes(harmed)
            broken, _ = verified(folder, images)
            assert broken and name in broken[0], (name, how)
            (folder / name).write_bytes(content)
    assert verified(folder, images)[0] == []


def resealed(folder: Path, name: str, content: bytes) -> None:
    """Another file under the same name, of which the card knows size and hash."""
    from spaceevo.deploy.claims.card import content_claims

    card = json.loads((folder / "card.json").read_text())
    part = "files" if name in card["files"] else "other_files"
    card[part][name] |= content_claims(content)
    (folder / name).write_bytes(content)
    (folder / "card.json").write_text(card_text(sealed(card)))


def foreign_onnx(inputs: int, name: str = "x") -> bytes:
    """A valid ONNX model that is none of ours."""
    kind = onnx.TensorProto.FLOAT
    values = [onnx.helper.make_tensor_value_info(f"{name}{i}" if i else name, kind, [1, 3]) for i in range(inputs)]
    nodes = [onnx.helper.make_node("Sum", [value.name for value in values], ["y"])]
    out = [onnx.helper.make_tensor_value_info("y", kind, [1, 3])]
    graph = onnx.helper.make_graph(nodes, "foreign", values, out)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def without_a_weight(path: Path) -> bytes:
    """An integer model that can be read, but not run."""
    with safe_open(path, "np") as file:
        header, names = file.metadata(), list(file.keys())
        return save({name: file.get_tensor(name) for name in names if name != "weights/classifier"}, header)


def test_foreign_and_broken_files_that_the_card_knows_are_named(source: Path, tmp_path: Path, images: dict[str, Any]) -> None:
    cases = {
        "model.onnx": [foreign_onnx(1), foreign_onnx(2), foreign_onnx(1, "input"), (source / "fp32.onnx").read_bytes(), b""],
        "fp32.onnx": [foreign_onnx(1), (source / "model.tflite").read_bytes()],
        "model.tflite": [b"TFL3" * 99, (source / "model.tflite").read_bytes()[:3000]],
        "model.safetensors": [
            b"garbage",
            (source / "model.safetensors").read_bytes()[:200],
            save({"weights/a": np.zeros(3, np.int8)}),
            without_a_weight(source / "model.safetensors"),
        ],
        "parity.json": [b"{}", b"[1", b'{"files": 3, "images": 1, "ops": [], "first_apart": null}'],
    }
    for name, contents in cases.items():
        for i, content in enumerate(contents):
            folder = Path(shutil.copytree(source, tmp_path / f"{name}-{i}"))
            resealed(folder, name, content)
            broken, _ = verified(folder, images)
            assert broken and name in broken[0], (name, i, broken)


def test_a_card_of_an_older_version_is_read_and_said_to_have_no_hash(
    source: Path, tmp_path: Path, images: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    card = json.loads((folder / "card.json").read_text())
    for key in ("card_sha256", "other_files"):
        del card[key]
    (folder / "card.json").write_text(json.dumps(card))
    assert verified(folder, images)[0] == []
    told = verify.seal_claim(card)
    assert (told.card, told.here, told.holds) == ("none: of an older version", "not checked", None)
    (folder / "model.safetensors").write_bytes(b"garbage")
    assert "model.safetensors: truncated or not an integer model" in verified(folder, images)[0][0]


def test_a_file_that_the_card_does_not_name_is_told(source: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    shutil.copyfile(folder / "model.onnx", folder / "other.onnx")
    assert verify.unnamed(folder, verify.read_files(folder, verify.read_card(folder))) == ["other.onnx"]
