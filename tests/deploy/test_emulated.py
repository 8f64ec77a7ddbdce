"""Files on CPUs that are not here, really emulated: set up from Debian and PyPI, skipped with why where that cannot be."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from deploy.every_input import AFFINE, HW, SYMMETRIC, case_model, imitated, random_case, reference, settled_case, tied_case
from deploy.nets import demo_subnet, small_stage, smooth_images, trained_net

from spaceevo.deploy.files.onnx_writer import write_int8
from spaceevo.deploy.files.tflite_writer import write_tflite
from spaceevo.deploy.integer.arithmetic import TABLES
from spaceevo.deploy.integer.fold import integer_model
from spaceevo.deploy.integer.model import IntegerModel
from spaceevo.deploy.integer.reference import run_integer
from spaceevo.errors import UserError
from spaceevo.latency.machines.machine import Machine, emulated
from spaceevo.nn.elastic import Quantizer
from spaceevo.space.blocks import BLOCK_TYPES
from spaceevo.space.graph import ACTIVATIONS, SCHEMES

pytestmark = pytest.mark.slow
CPUS, CASES = ("cortex-a76", "haswell"), 6
WRITE = {"onnxruntime": lambda model: write_int8(model, batch=None), "litert": write_tflite}
Shown = tuple[IntegerModel, np.ndarray]


def scheme_of(quantizer: Quantizer) -> str:
    return f"{quantizer.activations}-{quantizer.weight_bits}"


BOTH = pytest.mark.parametrize("quantizer", [AFFINE, SYMMETRIC], ids=scheme_of)


@cache
def machine(cpu: str) -> Machine | str:
    """The CPU, or why it cannot be emulated here."""
    try:
        emulated(cpu).facts()
    except UserError as error:
        return str(error)
    return emulated(cpu)


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest) -> tuple[str, Machine]:
    found = machine(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return request.param, found


def integers(there: Machine, runtime: str, held: list[Shown]) -> list[np.ndarray]:
    """What each model gives for its images there, as integers."""
    files = {str(i): (WRITE[runtime](model), images) for i, (model, images) in enumerate(held)}
    given = there.outputs_of(runtime, files)
    grids = [model.output_qparams for model, _ in held]
    return [np.rint(given[str(i)] / scale + zero).astype(np.uint8).ravel() for i, (scale, zero) in enumerate(grids)]


@BOTH
@pytest.mark.parametrize("runtime", WRITE)
@pytest.mark.parametrize("kind", ["add", "mul", "hsigmoid", "mean"])
def test_the_runtimes_roundings_are_known_there_for_every_input(
    kind: str, runtime: str, quantizer: Quantizer, cpu: tuple[str, Machine]
) -> None:
    """With scales as they come and with such as make ties: of all forms the one of this architecture."""
    name, there = cpu
    rng = np.random.default_rng(257)
    tied = [] if kind == "mean" else [tied_case(kind, quantizer)]
    cases = [*tied, *(random_case(kind, rng, quantizer) for _ in range(CASES))]
    held = [case_model(kind, case, HW.get(kind, 16)) for case in cases]
    place = 1 + list(WRITE).index(runtime) + (0 if name == "haswell" else 2)
    for case, shown, given in zip(cases, held, integers(there, runtime, held), strict=True):
        np.testing.assert_array_equal(given, imitated(case, *shown)[place])


@BOTH
def test_with_settled_scales_every_input_gives_the_exact_integers_there(quantizer: Quantizer, cpu: tuple[str, Machine]) -> None:
    rng = np.random.default_rng(3)
    held = []
    for kind in TABLES:
        hw = HW.get(kind, 16)
        held.append(case_model(kind, settled_case(kind, random_case(kind, rng, quantizer), hw, quantizer), hw))
    for runtime in WRITE:
        for shown, given in zip(held, integers(cpu[1], runtime, held), strict=True):
            np.testing.assert_array_equal(given, reference(*shown))


@pytest.mark.parametrize("quantizer", [Quantizer(bits, scheme) for scheme in SCHEMES for bits in (7, 8)], ids=scheme_of)
def test_every_block_type_gives_the_reference_s_integers_there(quantizer: Quantizer, cpu: tuple[str, Machine]) -> None:
    """All but weights of 8 bits with affine activations in onnxruntime without VNNI, which saturate."""
    name, there = cpu
    graphs = [small_stage(kind, act) for kind, act in zip(BLOCK_TYPES, ACTIVATIONS * len(BLOCK_TYPES), strict=False)]
    held = []
    for seed, graph in enumerate([*graphs, demo_subnet("2646")]):
        net, stats = trained_net(graph, seed, quantizer)
        held.append((integer_model(net, graph, stats, quantizer), smooth_images(8, graph, seed=1).numpy()))
    expected = [np.rint(run_integer(*shown) / shown[0].output_qparams[0] + shown[0].output_qparams[1]) for shown in held]
    for runtime in WRITE:
        apart = [np.any(one != right.ravel()) for one, right in zip(integers(there, runtime, held), expected, strict=True)]
        assert any(apart) == (name == "haswell" and runtime == "onnxruntime" and quantizer == Quantizer(8))
