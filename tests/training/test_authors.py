"""The authors' released supernets: read, computed as they do, written back; and what no such file is."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor

from spaceevo.errors import UserError
from spaceevo.space import SearchSpace, Subnet, subnet_graph
from spaceevo.training.authors import check_state, layers_of
from spaceevo.training.released import Released, released, state_of
from spaceevo.training.states import read_state

FORMAT = ROOT.parent / "shared/published/checkpoint_format"
needs_format = pytest.mark.skipif(not FORMAT.is_dir(), reason="needs the authors' tables")
SPACES = sorted(path.stem for path in FORMAT.glob("*.csv"))
SMALL = "mobilew-332160-134200"


def declared(space: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Key to dtype and shape."""
    rows = csv.DictReader((FORMAT / f"{space}.csv").read_text().splitlines())
    return {row["key"]: (row["dtype"], tuple(map(int, filter(None, row["shape"].split("x"))))) for row in rows}


def made_up(space: str) -> dict[str, Tensor]:
    """The weights that the expected outputs are of, as the format's description draws them."""
    shapes, state = {key: shape for key, (_, shape) in declared(space).items()}, {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        stem, _, last = key.rpartition(".")
        if last == "num_batches_tracked":
            state[key] = torch.tensor(0)
            continue
        if last in ("sa", "beta"):
            value: Any = np.full(shape, 0.03 if last == "sa" else -0.4)
        elif last == "sw":
            value = np.full(shape, 6 * np.sqrt(2 / np.prod(shapes[f"{stem}.weight"][1:])) / 255)
        elif key.endswith((".norm.weight", ".norm.running_var")):
            value = rng.uniform(0.8, 1.2, shape)
        elif key.endswith((".norm.bias", ".norm.running_mean")):
            value = rng.normal(0, 0.1, shape)
        elif last == "weight":
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            value = rng.normal(0, 0.05, shape)
        state[key] = torch.from_numpy(np.asarray(value, np.float32))
    return state


@pytest.fixture(scope="module")
def supernets() -> dict[str, Released]:
    return {}


def supernet(space: str, held: dict[str, Released]) -> Released:
    if space not in held:
        held.clear()  # one at a time: each is hundreds of megabytes
        state, parsed = made_up(space), SearchSpace.parse(space)
        check_state(Path(space), state, parsed)
        held[space] = released(state, parsed)
    return held[space]


@needs_format
@pytest.mark.parametrize("space", SPACES)
def test_every_tensor_of_the_format_is_known_by_key_and_shape(space: str) -> None:
    found = dict(pair for layer in layers_of(SearchSpace.parse(space)).values() for pair in layer.tensors(learned=True))
    assert found == {key: shape for key, (_, shape) in declared(space).items()}


def stage_ops(net: Subnet) -> dict[str, str]:
    """The op whose output is that of each of the authors' stages."""
    names = [op.name for op in subnet_graph(net).ops]
    ops = {"first_conv": [n for n in names if n == "stem" or n.startswith("stem")]}
    ops |= {stage.name: [n for n in names if n.startswith(f"{stage.name}.")] for stage in net.space.all_stages}
    for end in ("final_expand", "feature_mix"):
        ops[end] = [n for n in names if n.startswith(f"head.{end}")]
    return {stage: found[-1] for stage, found in ops.items()} | {"logits": "classifier"}


def expectations() -> list[Any]:
    told = json.loads((FORMAT / "outputs.json").read_text()) if FORMAT.is_dir() else {}
    return [pytest.param(s, m, n, id=f"{s}-{m}-{n}") for s in told for m in told[s] for n in told[s][m]]


@needs_format
@pytest.mark.parametrize(("space", "mode", "name"), expectations())
def test_stages_give_what_the_authors_code_gives(space: str, mode: str, name: str, supernets: dict[str, Released]) -> None:
    """FP32: within 1e-3 of a stage's standard deviation. INT8: means and deviations within 1 %, logits' correlation 0.99."""
    expected = json.loads((FORMAT / "outputs.json").read_text())[space][mode][name]
    imported = supernet(space, supernets)
    net = Subnet.parse(imported.space, expected["subnet"])
    r = net.resolution
    x = torch.from_numpy(np.random.default_rng(r).normal(size=(2, 3, r, r)).astype(np.float32))
    record: dict[str, Tensor] = {}
    logits = imported.forward(x, subnet_graph(net), mode == "int8", record)
    for stage, op in stage_ops(net).items():
        told, y = expected["stages"][stage], record[op]
        y = y.flatten(1) if len(told["shape"]) == 2 else y
        assert list(y.shape) == told["shape"], stage
        near = 1e-3 if mode == "fp32" else 0.01
        assert y.mean().item() == pytest.approx(told["mean"], abs=near * told["std"]), stage
        assert y.std().item() == pytest.approx(told["std"], rel=near), stage
        if mode == "fp32":
            np.testing.assert_allclose(y.flatten()[:4].numpy(), told["first"], atol=1e-3 * told["std"])
    if mode == "int8":
        assert np.corrcoef(logits.flatten()[:8].numpy(), expected["logits"])[0, 1] >= 0.99
    else:
        with torch.no_grad():
            ours = imported.net(x, subnet_graph(net), stats=imported.stats_of(subnet_graph(net))).flatten(1)
        torch.testing.assert_close(ours, logits, rtol=0, atol=1e-3 * logits.std().item())
        np.testing.assert_allclose(logits.flatten()[:8].numpy(), expected["logits"], atol=1e-3 * logits.std().item())


@pytest.fixture(scope="module")
def small() -> Released:
    """A supernet of ours, of random weights, with statistics and quantizers as if it had been trained."""
    space = SearchSpace.parse(SMALL)
    rng = torch.Generator().manual_seed(0)
    state = {}
    for layer in layers_of(space).values():
        for key, shape in layer.tensors(learned=True):
            state[key] = torch.rand(shape, generator=rng) + 0.5 if shape else torch.tensor(0)
    return released(state, space)


@pytest.mark.slow
def test_what_is_written_is_read_again_bit_for_bit(small: Released, tmp_path: Path) -> None:
    path = tmp_path / "lsq.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state_of(small).items()}}, path)
    state = read_state(path)
    check_state(path, state, small.space)
    again = released(state, small.space)
    assert again.learned == small.learned and again.stats.keys() == small.stats.keys()
    found = again.net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in small.net.state_dict().items())
    assert all(torch.equal(a, b) for name, pair in small.stats.items() for a, b in zip(again.stats[name], pair, strict=True))


class Runs:
    """A pickle that asks for code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_what_is_no_released_supernet_is_told_in_one_line(small: Released, tmp_path: Path) -> None:
    path, good = tmp_path / "lsq.pth", state_of(small)

    def refused(content: Any, told: str, space: str = SMALL) -> None:
        if content is not None:
            torch.save(content, path)
        with pytest.raises(UserError, match=told) as error:
            check_state(path, read_state(path), SearchSpace.parse(space))
        assert "\n" not in str(error.value) and str(path) in str(error.value)

    refused({"state_dict": good}, "a supernet of space=spaceevo@pixel4-tiny", "mobilew-122222-155400")
    keys = sorted(good)
    refused({"state_dict": {key: good[key] for key in keys[12:]}}, f"12 keys missing: {keys[0]}, .* and 2 more")
    refused({"state_dict": good | {"a.b": torch.ones(1)}}, "1 keys not known: a.b")
    nan = good[keys[40]].clone().float().fill_(float("nan"))
    refused({"state_dict": good | {keys[40]: nan}}, f"{keys[40]} has values that are not finite")
    head = "stages.logits.blocks.0.linear"
    other = {f"{head}.weight": good[f"{head}.weight"][:10].clone(), f"{head}.bias": good[f"{head}.bias"][:10].clone()}
    refused({"state_dict": good | other}, rf"{head}\.weight is \[10, 1920\], not \[1000, 1920\]")
    refused({"state_dict": Runs()}, "asks to run .*print.* as it is read: refused")
    refused([1, 2], "holds no state_dict of tensors")
    torch.save({"state_dict": good}, path)
    path.write_bytes(path.read_bytes()[:5000])
    refused(None, "truncated or not a file of torch.save")
    path.unlink()
    refused(None, "No such file")
