"""``make emulate``: every block type and activation on emulated CPUs, in both runtimes, against the reference's integers.

Prints a row for each CPU, runtime, scheme of activations and group of nets: those with weights of 7 bits, of 8, and ops without
weights on every input that they can have. Exits with 1 where integers differ that should not: all but those of 8-bit weights
and affine activations in onnxruntime on x86 without VNNI, which saturate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from deploy.every_input import HW, case_model, random_case, settled_case
from deploy.nets import demo_subnet, small_stage, smooth_images, trained_net

from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.arithmetic import TABLES
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.errors import UserError
from spaceevo.latency.host import saturates
from spaceevo.latency.machines.machine import Machine, emulated
from spaceevo.latency.runtimes.call import PACKAGES
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Graph
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS, AFFINE, PADDINGS, SCHEMES, GraphBuilder

DEFAULT = ("cortex-a76", "haswell")
BITS, IMAGES, CASES = (7, 8), 16, 8
OPS = "none"  # bits of the weights of ops that have none
WRITE = {"onnxruntime": lambda model: write_int8(model, batch=None), "litert": write_tflite}
ROW = "{:<11} {:<12} {:<8} {:<12} {:>4} {:>5} {:>6} {:>10} {:>10} {:>8}"


@dataclass(frozen=True)
class Net:
    """A model with images ``[N, C, R, R]``, and the logits that the reference gives for them."""

    model: IntegerModel
    images: np.ndarray
    expected: np.ndarray


def pooled(act: str) -> Graph:
    """A stem with a pool, which no block has."""
    g = GraphBuilder(3, 20)
    x = g.maxpool("pool", g.conv("conv", g.x, 8, kernel=3, stride=2, act=act), kernel=3, stride=2)
    g.conv("classifier", g.mean("mean", x), 5, norm=False)
    return g.graph


def graphs() -> Iterator[tuple[str, Graph, str]]:
    """Every block type and activation with stride 1 or 2 and either padding, whole subnets of all block types, and a pool."""
    for i, (kind, act) in enumerate(product(BLOCK_TYPES, ACTIVATIONS)):
        yield f"{kind} {act}", small_stage(kind, act, 1 + (i + i // 4) % 2), PADDINGS[i // 2 % 2]
    for types in ("0123", "4560", "2646"):
        yield types, demo_subnet(types), PADDINGS[0]
    for act in ACTIVATIONS:
        yield f"pool {act}", pooled(act), PADDINGS[1]


def nets(quantizer: Quantizer) -> dict[str, Net]:
    found = {}
    for seed, (name, graph, padding) in enumerate(graphs()):
        net, stats = trained_net(graph, seed, quantizer, padding)
        model = integer_model(net, graph, stats, quantizer)
        images = smooth_images(IMAGES, graph, seed=1).numpy()
        found[name] = Net(model, images, run_integer(model, images))
    return found


def ops(quantizer: Quantizer) -> dict[str, Net]:
    """Every op without weights, with random scales that are settled, on every input."""
    found, rng = {}, np.random.default_rng(0)
    for kind, number in product(TABLES, range(CASES)):
        hw = HW.get(kind, 16)
        model, images = case_model(kind, settled_case(kind, random_case(kind, rng, quantizer), hw, quantizer), hw)
        found[f"{kind} {number}"] = Net(model, images, run_integer(model, images))
    return found


def row(machine: Machine, cells: tuple[str, ...], runtime: str, held: dict[str, Net], exact: bool) -> bool:
    """Print what a runtime gives on a CPU, behind ``cells``; whether it is what it should be."""
    models = {name: (WRITE[runtime](net.model), net.images) for name, net in held.items()}
    given = machine.outputs_of(runtime, models)
    steps = {name: np.abs(given[name].astype(float) - net.expected) / net.model.output_qparams[0] for name, net in held.items()}
    apart = {name: np.rint(found).max() for name, found in steps.items() if found.any()}
    every = np.concatenate([found.ravel() for found in steps.values()])
    figures = f"{100 * np.mean(every == 0):.2f} %", f"{every.max():.0f}"
    print(ROW.format(*cells, len(held), len(held) - len(apart), f"{every.size:,}", *figures), flush=True)
    if apart and exact:
        print(f"  not exact: {', '.join(f'{name} ({most:.0f})' for name, most in apart.items())}")
    return not (apart and exact)


def main(cpus: list[str]) -> int:
    """0: all is as it should be, or nothing can be emulated here, which is said."""
    try:
        machines = {cpu: emulated(cpu) for cpu in cpus}
        facts = {cpu: machine.facts() for cpu, machine in machines.items()}
    except UserError as error:
        print(f"make emulate: skipped: {error}")
        return 0
    qemu = {told["versions"]["qemu-user"] for told in facts.values()}
    print(f"qemu-user {', '.join(qemu)}; {IMAGES} images a net")
    print(ROW.format("CPU", "runtime", "version", "activations", "bits", "nets", "exact", "integers", "equal", "at most"))
    held = {(scheme, str(bits)): nets(Quantizer(bits, scheme)) for scheme, bits in product(SCHEMES, BITS)}
    held |= {(scheme, OPS): ops(Quantizer(activations=scheme)) for scheme in SCHEMES}
    right = True
    for cpu, runtime, (scheme, bits) in product(cpus, WRITE, held):
        exact = not ((scheme, bits) == (AFFINE, "8") and runtime == "onnxruntime" and saturates(facts[cpu]["host"]))
        cells = cpu, runtime, facts[cpu]["versions"][PACKAGES[runtime]], scheme, bits
        try:
            right &= row(machines[cpu], cells, runtime, held[scheme, bits], exact)
        except UserError as error:
            print(f"{cpu} {runtime} {scheme} {bits} bits: {error}")
            right = False
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(DEFAULT)))
