"""Whether what a card claims of its files holds on this machine, claim by claim."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.deploy.claims.gate import digest
from spaceevo.deploy.claims.parity import agreement, float_convolutions, integer_op_report
from spaceevo.deploy.integer.reference import Arrays
from spaceevo.deploy.runtimes.registry import measure_cold, measure_files, open_file, outputs, runtime_of
from spaceevo.errors import UserError
from spaceevo.latency import host
from spaceevo.latency.measure import latency

NEEDED = ("name", "input", "data", "files", "timing", "host", "versions")


@dataclass(frozen=True)
class Claim:
    """One claim: ``card`` and ``here`` in words; ``holds`` None: told, not judged; ``must``: the model is refused without."""

    of: str
    what: str
    card: str
    here: str
    holds: bool | None = None
    must: bool = False


def read_card(folder: Path) -> dict[str, Any]:
    """``card.json`` of a model's folder.

    Raises:
        UserError: there is none, or it is truncated, or it does not say what can be checked.
    """
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"path={folder}: no readable card.json in it ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: truncated or not JSON; export the model again") from None
    missing = [key for key in NEEDED if not isinstance(card, dict) or key not in card]
    if missing:
        raise UserError(f"{path}: says nothing of {', '.join(missing)}: of an older version; export the model again")
    return card


def read_files(folder: Path, card: Mapping[str, Any]) -> dict[str, bytes]:
    """The model files that the card names, by name.

    Raises:
        UserError: one is missing, truncated, or not the file that the card was written for.
    """
    contents = {}
    for name, claims in card["files"].items():
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; the card has claims about it") from None
        if len(content) < claims["bytes"]:
            raise UserError(f"{path}: truncated, {len(content)} of {claims['bytes']} bytes")
        found = hashlib.sha256(content).hexdigest()
        if found != claims["sha256"]:
            raise UserError(f"{path}: changed, sha256 {found[:16]} and not the card's {claims['sha256'][:16]}")
        contents[name] = content
    return contents


def machine_claims(card: Mapping[str, Any]) -> list[Claim]:
    """What the machine of the card and this one are; CPU flags that only one of them has."""
    theirs, here, flags = card["host"], host.describe(), host.flags()
    lost = [f"no {flag}" for flag in theirs["flags"] if flag not in flags]
    gained = [f"also {flag}" for flag in flags if flag not in theirs["flags"]]
    versions = {name: (v, host.versions().get(name, "none")) for name, v in card["versions"].items()}
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
    """Top-1 of a file whose logits here are ``given`` ``[N, classes]``: within ``points`` percentage points of the card's, or
    one image; and whether the logits are the card's bit for bit, from which its agreement with the trained model follows."""
    top1 = agreement(given.argmax(1), labels)
    near = abs(top1 - claims["top1"]) <= max(points, 100 / len(labels)) + 1e-9
    found = [Claim(name, f"top-1 in {claims['runtime']}", f"{claims['top1']:.2f} %", f"{top1:.2f} %", near, must=True)]
    same = digest(given) == claims["outputs_sha256"]
    found.append(Claim(name, "outputs", claims["outputs_sha256"][:16], "the same, bit for bit" if same else digest(given)[:16]))
    if agreed is not None:
        follows = "follows, as the outputs are the same" if same else "not known: the trained model is not here"
        found.append(Claim(name, "agreement with the trained model", f"{agreed:.2f} %", follows, True if same else None))
    return found


def verify_files(
    card: Mapping[str, Any],
    files: Mapping[str, bytes],
    folder: Path,
    images: Arrays,
    labels: np.ndarray,
    points: float,
    progress: Callable[[str, int], object],
) -> list[Claim]:
    """Every claim about the files: each is run over ``images`` ``[N, C, R, R]`` in its runtime, and timed.

    Raises:
        UserError: a runtime cannot read a file.
    """
    found: list[Claim] = []
    given: dict[str, np.ndarray] = {}
    running = {name: open_file(folder / name, content) for name, content in files.items() if runtime_of(name) is not None}
    for name, claims in card["files"].items():
        size = f"{claims['bytes']:,} bytes, sha256 {claims['sha256'][:16]}"
        found.append(Claim(name, "file", size, "the same", True, must=True))
        if name not in running:
            found.append(
                Claim(name, f"top-1 in {claims['runtime']}", f"{claims['top1']:.2f} %", "not checked: no such runtime")
            )
            continue
        given[name] = outputs(running[name], images, partial(progress, name))
        agreed = claims.get("agreement", card.get("agreement") if name == "model.onnx" else None)
        found += accuracy_claims(name, claims, agreed, given[name], labels, points)
        if name == "model.onnx":
            left = float_convolutions(integer_op_report(files[name]))
            found.append(
                Claim(
                    name, "float convolutions", str(card["float_convolutions"]), str(left), left <= card["float_convolutions"]
                )
            )
    found += runtimes_claim(card, given)
    return found + latency_claims(card, {name: files[name] for name in running})


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


def latency_claims(card: Mapping[str, Any], files: Mapping[str, bytes]) -> list[Claim]:
    """Latencies here beside the card's, and the speed-up of INT8: told, not judged."""
    timing = card["timing"]
    timed = {name: content for name, content in files.items() if card["files"][name]["measured_ms"] is not None}
    times = measure_files(timed, timing["rounds"], timing["runs"], timing["threads"], timing["spread_s"])
    here = {name: latency(taken) for name, taken in times.items()}
    threads = f"latency, {timing['threads']} thread{'s' if timing['threads'] > 1 else ''}"
    found = [_beside(name, threads, card["files"][name]["measured_ms"], ms) for name, ms in here.items()]
    cold = measure_cold({name: timed[name] for name in timed if "cold_ms" in card["files"][name]}, timing["threads"])
    found += [_beside(name, "latency, cold caches", card["files"][name]["cold_ms"], ms) for name, ms in cold.items()]
    if {"model.onnx", "fp32.onnx"} <= set(here):
        ratio = here["fp32.onnx"] / here["model.onnx"]
        found.append(Claim("model.onnx", "speed-up over FP32", f"{card['speedup']:.2f}x", f"{ratio:.2f}x"))
    if card.get("limit_ms") is not None and "model.onnx" in here:
        kept = "kept" if here["model.onnx"] <= card["limit_ms"] else "not kept"
        found.append(Claim("model.onnx", "latency limit", f"{card['limit_ms']:.4g} ms", kept))
    return found


def _beside(name: str, what: str, claimed_ms: float, ms: float) -> Claim:
    return Claim(name, what, f"{claimed_ms:.4g} ms", f"{ms:.4g} ms ({ms / claimed_ms:.2f}x)")


def table(claims: Iterable[Claim]) -> str:
    """The claims as lines of equal columns."""
    words = {True: "yes", False: "NO", None: ""}
    rows = [("of", "claim", "on the card", "here", "holds")]
    rows += [(claim.of, claim.what, claim.card, claim.here, words[claim.holds]) for claim in claims]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
