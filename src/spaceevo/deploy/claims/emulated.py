"""What INT8 files give on CPUs that are not here: whether it is the reference's integers, as it is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spaceevo.deploy.claims.gate import compare
from spaceevo.deploy.claims.parity import same_integers
from spaceevo.deploy.inputs import AtSize, Shown
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.deploy.runtimes.registry import runtime_of
from spaceevo.latency.host import saturates
from spaceevo.latency.machines.machine import emulated
from spaceevo.latency.runtimes.call import PACKAGES

IMAGES = 100  # that files are run on there: 1 to 4 s a file of the demo


def emulated_rows(
    cpus: Sequence[str], files: Mapping[str, bytes], model: IntegerModel, images: Shown, weight_bits: int
) -> list[dict[str, Any]]:
    """The INT8 ``files`` of ``model`` over the first ``images`` on every one of ``cpus``.

    Returns:
        A row for each CPU and file: the instruction sets that matter (``flags``), ``runtime`` and its ``version``,
        ``identical_integers`` (percent of the outputs' that are the reference's), ``max_difference`` (output steps), and
        ``saturates``: the runtime's products with these weights do so on this CPU, and other integers are expected.

    Raises:
        UserError: a CPU cannot be emulated here, or a runtime fails on it.
    """
    count = min(IMAGES, len(images.fed))
    expected = run_integer(model, AtSize(images.normalized, model.graph.input.hw)[:count])
    fed, rows = images.fed[:count], []
    for cpu in dict.fromkeys(cpus):
        machine = emulated(cpu)
        facts = machine.facts()
        saturating = weight_bits == 8 and not model.symmetric and saturates(facts["host"])
        for name, content in files.items():
            runtime = runtime_of(name)
            assert runtime is not None
            given = machine.outputs(runtime.name, content, fed)
            rows.append(
                dict(
                    cpu=cpu,
                    flags=facts["host"]["flags"],
                    emulator=f"qemu-user {facts['versions']['qemu-user']}",
                    file=name,
                    runtime=runtime.name,
                    version=facts["versions"][PACKAGES[runtime.name]],
                    images=count,
                    identical_integers=same_integers(given, expected),
                    max_difference=compare(given, expected, model.output_qparams[0])["max_difference"],
                    saturates=saturating and runtime.name == "onnxruntime",
                )
            )
    return rows


def not_exact(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why files are refused, in words: of integers that are not the reference's, those that have no reason to be others."""
    return [
        f"{row['file']} gives {_share(row)} on an emulated {row['cpu']}"
        for row in rows
        if row["identical_integers"] < 100 and not row["saturates"]
    ]


def emulated_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in words; nothing where there are none."""
    if not rows:
        return ""
    exact = [row for row in rows if row["identical_integers"] == 100]
    told = [f"{row['file']} exact on {row['cpu']}" for row in exact]
    for row in rows:
        if row not in exact:
            why = " (8-bit weights saturate in onnxruntime without VNNI)" if row["saturates"] else ""
            told.append(f"{row['file']} with {_share(row)} on {row['cpu']}{why}")
    return f"; emulated, {rows[0]['images']} images: {', '.join(told)}"


def _share(row: Mapping[str, Any]) -> str:
    share, most = row["identical_integers"], row["max_difference"]
    return f"{share:.2f} % of the reference's integers, the others at most {most:.0f} steps off"
