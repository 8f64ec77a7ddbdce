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
from spaceevo.deploy.claims.reading import BESIDE
from spaceevo.deploy.claims.reading import read_card as read_card
from spaceevo.deploy.claims.reading import read_files as read_files
from spaceevo.deploy.file_input import FileInput
from spaceevo.deploy.files.onnx_graph import LABELS
from spaceevo.deploy.inputs import AtSize, Shown
from spaceevo.deploy.runtimes.registry import (
    measure_cold,
    measure_files,
    open_on,
    outputs,
    runtime_of,
    runtime_of_card,
)
from spaceevo.latency.machines.machine import HERE, Machine
from spaceevo.latency.measure import latency
from spaceevo.latency.runtimes.call import PACKAGES

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


def accuracy_claims(
    name: str,
    claims: Mapping[str, Any],
    agreed: float | None,
    given: np.ndarray,
    labels: np.ndarray,
    points: float,
) -> list[Claim]:
    """Top-1 of a file whose logits here are ``given`` ``[N, classes]``: the card's where the logits are the card's bit for bit,
    else within ``points`` percentage points of it, or one image; and whether they are, from which its agreement with the
    trained model follows."""
    top1, same = agreement(given.argmax(1), labels), digest(given) == claims["outputs_sha256"]
    near = abs(top1 - claims["top1"]) <= (0 if same else max(points, 100 / len(labels))) + 1e-9
    words = f"top-1 in {claims['runtime']}", f"{claims['top1']:.2f} %", f"{top1:.2f} %"
    found = [Claim(name, *words, near, must=True, keys=(f"files/{name}/top1",))]
    here = "the same, bit for bit" if same else digest(given)[:16]
    shown = Claim(name, "outputs", claims["outputs_sha256"][:16], here, True if same else None)
    found.append(replace(shown, keys=(f"files/{name}/outputs_sha256", *IMAGES)))
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
) -> tuple[list[Claim], dict[str, bytes]]:
    """Every claim about the card and its files but latencies (:func:`latency_claims`): each is run over ``images`` in its
    runtime on ``machine``; and the files that can be timed there.

    Raises:
        UserError: a runtime cannot read or run a file.
    """
    found: list[Claim] = [seal_claim(card)]
    given: dict[str, np.ndarray] = {}
    there = machine.facts()["versions"]
    able = [name for name in card["files"] if (runtime := runtime_of(name)) and PACKAGES[runtime.name] in there]
    running = {name: open_on(machine, folder / name, files[name]) for name in able}
    for name, claims in card["files"].items():
        found.append(_file_claim(name, claims, f"files/{name}"))
        if name not in running:
            words = f"{claims['top1']:.2f} %", "not checked: no such runtime"
            found.append(Claim(name, f"top-1 in {claims['runtime']}", *words))
            continue
        found.append(_runtime_claim(name, claims))
        logits, part = running[name]
        given[name] = outputs(logits, images.fed, partial(progress, name), part)
        agreed = claims.get("agreement", card.get("agreement") if name == runtime_of_card(card).int8 else None)
        found += accuracy_claims(name, claims, agreed, given[name], labels, points)
    found += [_file_claim(name, claims, f"{BESIDE}/{name}") for name, claims in card.get(BESIDE, {}).items()]
    found += [*image_claims(card, given, len(labels)), *precision_claims(card, files)]
    found += onnx_claims(card, files.get("model.onnx"))
    found += input_claims(card)
    floats = AtSize(images.normalized, card["input"]["shape"][-1])
    found += integer_claims(card, folder / INTEGER, floats, labels, given)
    found += [Claim(name, "file", "not on the card", "not checked") for name in unnamed(folder, files)]
    found += runtimes_claim(card, given)
    found.append(repeats_claim(card, files.get("parity.json"), folder, judged(found)))
    return found, {name: files[name] for name in running}


def _file_claim(name: str, claims: Mapping[str, Any], key: str) -> Claim:
    """Of a file that was read, and is the card's."""
    size = f"{claims['bytes']:,} bytes, sha256 {claims['sha256'][:16]}"
    return Claim(name, "file", size, "the same", True, must=True, keys=(f"{key}/bytes", f"{key}/sha256"))


def _runtime_claim(name: str, claims: Mapping[str, Any]) -> Claim:
    runtime = runtime_of(name)
    assert runtime is not None
    same = claims["runtime"] == runtime.name
    return Claim(name, "runtime", claims["runtime"], runtime.name, same, must=True, keys=(f"files/{name}/runtime",))


def unnamed(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """What looks like a file of the model, and the card says nothing of."""
    return sorted(path.name for path in folder.iterdir() if runtime_of(path) is not None and path.name not in files)


def image_claims(card: Mapping[str, Any], given: Mapping[str, np.ndarray], images: int) -> list[Claim]:
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


def runtimes_claim(card: Mapping[str, Any], given: Mapping[str, np.ndarray]) -> list[Claim]:
    """Whether all INT8 files give the same integers, each in its runtime; nothing where there is but one."""
    int8 = [name for name in given if card["files"][name]["precision"] == "int8"]
    if len(int8) < 2:
        return []
    claimed, here = (
        "the same" if len(set(digests)) == 1 else "other"
        for digests in ([card["files"][name]["outputs_sha256"] for name in int8], [digest(given[name]) for name in int8])
    )
    return [Claim(" = ".join(int8), "outputs, bit for bit", claimed, here, claimed == here or here == "the same")]


def latency_claims(card: Mapping[str, Any], files: Mapping[str, bytes], machine: Machine = HERE) -> list[Claim]:
    """Latencies on ``machine`` beside the card's, and the speed-up of INT8: told, not judged."""
    timing = card["timing"]
    timed = {name: content for name, content in files.items() if card["files"][name]["measured_ms"] is not None}
    times = measure_files(timed, machine, None, timing["rounds"], timing["runs"], timing["threads"], timing["spread_s"])
    here = {name: latency(taken) for name, taken in times.items()}
    threads = f"latency, {timing['threads']} thread{'s' if timing['threads'] > 1 else ''}"
    found = [_beside(name, threads, card["files"][name]["measured_ms"], ms) for name, ms in here.items()]
    told_cold = {name: timed[name] for name in timed if card["files"][name].get("cold_ms") is not None}
    cold = measure_cold(told_cold, machine, None, timing["threads"])
    found += [_beside(name, "latency, cold caches", card["files"][name]["cold_ms"], ms) for name, ms in cold.items()]
    int8, fp32 = runtime_of_card(card).int8, runtime_of_card(card).fp32
    if {int8, fp32} <= set(here) and card.get("speedup") is not None:
        found.append(Claim(int8, "speed-up over FP32", f"{card['speedup']:.2f}x", f"{here[fp32] / here[int8]:.2f}x"))
    if card.get("limit_ms") is not None and int8 in here:
        kept = "kept" if here[int8] <= card["limit_ms"] else "not kept"
        found.append(Claim(int8, "latency limit", f"{card['limit_ms']:.4g} ms", kept))
    return found


def _beside(name: str, what: str, claimed_ms: float, ms: float) -> Claim:
    return Claim(name, what, f"{claimed_ms:.4g} ms", f"{ms:.4g} ms ({ms / claimed_ms:.2f}x)")
