"""What is claimed of ``model.safetensors``, and of the files beside it: the judge is the numpy reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaceevo.deploy.claims.claim import Claim
from spaceevo.deploy.claims.gate import digest
from spaceevo.deploy.claims.parity import agreement, label_agreement, same_integers
from spaceevo.deploy.claims.ran import Ran
from spaceevo.deploy.claims.reading import BESIDE
from spaceevo.deploy.integer.model import load_integer
from spaceevo.deploy.integer.reference import Arrays, run_integer
from spaceevo.errors import UserError
from spaceevo.space import graph_cost
from spaceevo.space.graph import AFFINE, SYMMETRIC

INTEGER = "model.safetensors"


def integer_claims(
    card: Mapping[str, Any], path: Path, images: Arrays, labels: np.ndarray, given: Mapping[Ran, np.ndarray]
) -> list[Claim]:
    """What the integers of ``model.safetensors`` give in the reference over ``images``, and whether the files give the same;
    nothing where the card says nothing of it and it is not there.

    Raises:
        UserError: it is truncated or something else, or takes other images.
    """
    if not path.exists() or ("top1_reference" not in card and INTEGER not in card.get(BESIDE, {})):
        return []
    model = load_integer(path)
    x, cost = model.graph.input, graph_cost(model.graph)
    held = SYMMETRIC if model.symmetric else AFFINE
    told_of = dict(mmacs=cost.mmacs, params=cost.params, padding=model.padding, activations=held, resolution=x.hw)
    found = [
        Claim(path.name, key, _word(card[key]), _word(value), card[key] == value, must=True, keys=(key,))
        for key, value in told_of.items()
        if key in card
    ]
    shape = [1, x.channels, x.hw, x.hw]
    claimed = card["input"]["shape"]
    found.append(Claim(path.name, "input", str(claimed), str(shape), claimed == shape, must=True, keys=("input/shape",)))
    if shape[1:] != list(images[:1].shape[1:]):
        return found
    try:
        reference = run_integer(model, images)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a whole integer model ({type(error).__name__}: {error})") from None
    if "top1_reference" in card:
        top1, told = agreement(reference.argmax(1), labels), card["top1_reference"]
        same = abs(top1 - told) <= 1e-9
        words = f"{told:.2f} %", f"{top1:.2f} %"
        found.append(Claim(path.name, "top-1 in the reference", *words, same, must=True, keys=("top1_reference",)))
    for of, logits in given.items():
        found += _reference_claims(of, logits, reference)
    return found


def _word(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _reference_claims(ran: Ran, logits: np.ndarray, reference: np.ndarray) -> list[Claim]:
    """A file beside the reference: judged where its outputs are the card's, for other processors may round otherwise."""
    claims, same_outputs = ran.claims, digest(logits) == ran.claims["outputs_sha256"]
    found, of = [], dict(identical_integers=same_integers, agreement_reference=lambda a, b: label_agreement(b, a))
    what = dict(identical_integers="integers that are the reference's", agreement_reference="labels that are the reference's")
    for key, figure in of.items():
        if key in claims and logits.shape == reference.shape:
            here = figure(logits, reference)
            holds = abs(here - claims[key]) <= 1e-9 if same_outputs else None
            words = what[key], f"{claims[key]:.2f} %", f"{here:.2f} %"
            found.append(Claim(ran.words, *words, holds, must=same_outputs, keys=(f"{ran.key}/{key}",)))
    return found
