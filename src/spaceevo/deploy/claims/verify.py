"""Whether what a card claims of its files holds on this machine, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spaceevo.deploy.claims.claim import Claim, judged
from spaceevo.deploy.claims.claim import not_checked as not_checked
from spaceevo.deploy.claims.claim import table as table
from spaceevo.deploy.claims.gate import digest
from spaceevo.deploy.claims.integers import INTEGER, integer_claims
from spaceevo.deploy.claims.itself import repeats_claim, seal_claim
from spaceevo.deploy.claims.parity import agreement, float_convolutions, integer_op_report
from spaceevo.deploy.claims.ran import Ran, ran
from spaceevo.deploy.claims.reading import BESIDE
from spaceevo.deploy.claims.reading import read_card as read_card
from spaceevo.deploy.claims.reading import read_files as read_files
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_graph import LABELS
from spaceevo.deploy.inputs import AtSize, Shown
from spaceevo.deploy.runtimes.registry import (
    open_on,
    outputs,
    runtime_of,
    runtime_of_card,
    runtimes_in,
)
from spaceevo.latency.machines.machine import HERE, Machine

#: What decides which images the outputs are of.
IMAGES = tuple(f"data/{key}" for key in ("name", "channels", "image_size", "mean", "std", "test_limit", "background"))


def machine_claims(card: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Claim]:
    """What the machine of the card and that of ``facts`` are; CPU flags that only one of them has."""
    theirs, here, flags = card["host"], facts["host"], facts["host"]["flags"]
    lost = [f"no {flag}" for flag in theirs["flags"] if flag not in flags]
    gained = [f"also {flag}" for flag in flags if flag not in theirs["flags"]]
    versions = {name: (v, facts["versions"].get(name, "none")) for name, v in card["versions"].items()}
    return [
        Claim("machine", "CPU", str(theirs["cpu"]), str(here["cpu"])),
        Claim("machine", "CPU flags", ", ".join(theirs["flags"]), ", ".join([*lost, *gained]) or "the same"),
        *(Claim("machine", name, old, new if new != old else "the same") for name, (old, new) in versions.items()),
    ]


def accuracy_claims(ran: Ran, agreed: float | None, given: np.ndarray, labels: np.ndarray, points: float) -> list[Claim]:
    """Top-1 of a file whose logits here are ``given`` ``[N, classes]``: the card's where the logits are the card's bit for bit,
    else within ``points`` percentage points of it, or one image; and whether they are, from which its agreement with the
    trained model follows."""
    claims, name = ran.claims, ran.words
    top1, same = agreement(given.argmax(1), labels), digest(given) == claims["outputs_sha256"]
    near = abs(top1 - claims["top1"]) <= (0 if same else max(points, 100 / len(labels))) + 1e-9
    words = f"top-1 in {ran.runtime}", f"{claims['top1']:.2f} %", f"{top1:.2f} %"
    found = [Claim(name, *words, near, must=True, keys=(f"{ran.key}/top1",))]
    here = "the same, bit for bit" if same else digest(given)[:16]
    shown = Claim(name, "outputs", claims["outputs_sha256"][:16], here, True if same else None)
    found.append(replace(shown, keys=(f"{ran.key}/outputs_sha256", *IMAGES)))
    if agreed is not None:
        follows = "follows, as the outputs are the same" if same else "not known: the trained model is not here"
        found.append(Claim(name, "agreement with the trained model", f"{agreed:.2f} %", follows, True if same else None))
    return found


def run_claims(
    card: Mapping[str, Any],
    files: Mapping[str, bytes],
    folder: Path,
    images: Shown,
    labels: np.ndarray,
    points: float,
    progress: Callable[[str, int], object],
    machine: Machine = HERE,
) -> tuple[list[Claim], list[Ran]]:
    """Every claim about the card and its files but latencies (:mod:`spaceevo.deploy.claims.latencies`): each is run over
    ``images`` in its runtime on ``machine``, and in the others that the card tells of; and what of these can be timed there.

    Raises:
        UserError: a runtime cannot read or run a file.
    """
    found: list[Claim] = [seal_claim(card)]
    given: dict[Ran, np.ndarray] = {}
    told, there = ran(card), runtimes_in(machine.facts()["versions"])
    able = {one: runtime for one in told if (runtime := one.by) is not None and runtime in there}
    running = {one: open_on(machine, folder / one.file, files[one.file], runtime) for one, runtime in able.items()}
    for one in told:
        if one.own:
            found.append(_file_claim(one.file, one.claims, one.key))
        if one not in running:
            words = f"{one.claims['top1']:.2f} %", "not checked: no such runtime"
            found.append(Claim(one.words, f"top-1 in {one.runtime}", *words))
            continue
        found += _runtime_claim(one)
        logits, part = running[one]
        given[one] = outputs(logits, images.fed, partial(progress, one.words), part)
        agreed = one.claims.get("agreement", card.get("agreement") if one.file == runtime_of_card(card).int8 else None)
        found += accuracy_claims(one, agreed, given[one], labels, points)
    found += [_file_claim(name, claims, f"{BESIDE}/{name}") for name, claims in card.get(BESIDE, {}).items()]
    found += [*image_claims(card, given, len(labels)), *precision_claims(card, files)]
    found += onnx_claims(card, files.get("model.onnx"))
    found += input_claims(card)
    floats = AtSize(images.normalized, card["input"]["shape"][-1])
    found += integer_claims(card, folder / INTEGER, floats, labels, given)
    found += [Claim(name, "file", "not on the card", "not checked") for name in unnamed(folder, files)]
    found += runtimes_claim(given)
    found.append(repeats_claim(card, files.get("parity.json"), folder, judged(found)))
    return found, list(running)


def _file_claim(name: str, claims: Mapping[str, Any], key: str) -> Claim:
    """Of a file that was read, and is the card's."""
    size = f"{claims['bytes']:,} bytes, sha256 {claims['sha256'][:16]}"
    return Claim(name, "file", size, "the same", True, must=True, keys=(f"{key}/bytes", f"{key}/sha256"))


def _runtime_claim(ran: Ran) -> list[Claim]:
    """Whether the card names the file's own runtime; nothing of another, by whose name it tells of it."""
    if not ran.own or ran.by is None:
        return []
    same = ran.runtime == ran.by.name
    return [Claim(ran.file, "runtime", ran.runtime, ran.by.name, same, must=True, keys=(f"{ran.key}/runtime",))]


def unnamed(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """What looks like a file of the model, and the card says nothing of."""
    return sorted(path.name for path in folder.iterdir() if runtime_of(path) is not None and path.name not in files)


def image_claims(card: Mapping[str, Any], given: Mapping[Ran, np.ndarray], images: int) -> list[Claim]:
    """How many test images there are, and of how many classes."""
    claimed = card["data"]["images"]
    found = [Claim("data", "test images", str(claimed), str(images), claimed == images, must=True, keys=("data/images",))]
    if "classes" in card["data"] and given:
        here, claimed = next(iter(given.values())).shape[1], card["data"]["classes"]
        found.append(Claim("data", "classes", str(claimed), str(here), claimed == here, must=True, keys=("data/classes",)))
    return found


def input_claims(card: Mapping[str, Any]) -> list[Claim]:
    """Whether what the card tells of the files' input is what it means where images are given to them; nothing for a card of an
    older version."""
    told = card["input"]
    if "kind" not in told:
        return []
    wrong = [key for key, value in FileInput.read(told).claims().items() if told.get(key) != value]
    keys = tuple(f"input/{key}" for key in told if key not in ("shape", "mean", "std"))
    here = f"other {', '.join(wrong)}" if wrong else "the same"
    return [Claim("card", "input", told["kind"], here, not wrong, must=True, keys=keys)]


def precision_claims(card: Mapping[str, Any], files: Mapping[str, bytes]) -> list[Claim]:
    """Whether an ONNX file holds integers or floats, as the card says: one of floats may answer as one of integers does."""
    found = []
    for name, claims in card["files"].items():
        if Path(name).suffix == ".onnx":
            ops = {node.op_type for node in onnx.load_from_string(files[name]).graph.node}
            told, here = claims["precision"], "int8" if "QuantizeLinear" in ops else "fp32"
            found.append(Claim(name, "precision", told, here, told == here, must=True, keys=(f"files/{name}/precision",)))
    return found


def onnx_claims(card: Mapping[str, Any], content: bytes | None) -> list[Claim]:
    """What shows in ``model.onnx`` itself: the classes' names, what it says of its input, and what does not run as integers."""
    if content is None:
        return []
    found, props = [], {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    if "output" in card:
        same = FileInput.read(card["input"]).words("NCHW").items() <= props.items()
        same = same and props.get("output", "").startswith(card["output"])
        here = "the same" if same else "others"
        found.append(Claim("model.onnx", "input and output", "metadata", here, same, must=True, keys=("output",)))
    if "labels" in card:
        held = props.get(LABELS, "").split("\n")
        same = held == ["\n".join(card["labels"])] or held == card["labels"]
        words = f"{len(card['labels'])} names", "the same" if same else f"others: {', '.join(held)[:60]}"
        found.append(Claim("model.onnx", "labels", *words, same, must=True, keys=("labels",)))
    if "float_convolutions" in card:
        left, claimed = float_convolutions(integer_op_report(content)), card["float_convolutions"]
        holds = None if left < claimed else left == claimed
        keys = ("float_convolutions",)
        found.append(Claim("model.onnx", "float convolutions", str(claimed), str(left), holds, keys=keys))
    return found


def runtimes_claim(given: Mapping[Ran, np.ndarray]) -> list[Claim]:
    """Whether all INT8 files give the same integers, each in its own runtime; nothing where there is but one."""
    int8 = [one for one in given if one.own and one.claims["precision"] == "int8"]
    if len(int8) < 2:
        return []
    claimed, here = (
        "the same" if len(set(digests)) == 1 else "other"
        for digests in ([one.claims["outputs_sha256"] for one in int8], [digest(given[one]) for one in int8])
    )
    return [
        Claim(
            " = ".join(one.file for one in int8), "outputs, bit for bit", claimed, here, claimed == here or here == "the same"
        )
    ]
